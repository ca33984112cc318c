"""The server as an application of Ray Serve: replicas, each with the application of `nad serve` and a model of its own.

    serve run nad_server.ray_app:app model=Qwen/Qwen2.5-Coder-7B-Instruct n=16 replicas=4 num_gpus=1

`app` takes the options of `nad serve --ray` as arguments; `default_app` is what it builds without any, for
``serve build``, which accepts no function.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ray import serve
from rich.console import Console

from nad_server.ray_options import RayOptions
from nad_server.served_app import open_app

if TYPE_CHECKING:
    from fastapi import FastAPI

    from nad_server.state import ServerState

__all__ = ["Replica", "app"]


class Replica:
    """One copy of the model in a process of its own, with the application that serves it.

    Args:
        options: The options.
    """

    def __init__(self, options: RayOptions) -> None:
        # Ray has a queue of its own before the replicas, so that whatever it hands over is let in
        waiting = max(options.max_waiting, options.max_ongoing_requests)
        settings = options.settings.model_copy(update={"max_waiting": waiting})
        self._opened = contextlib.ExitStack()
        self._served: FastAPI = self._opened.enter_context(open_app(options, settings, Console(stderr=True)))

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Return the application that gets the requests."""
        return self._served

    async def check_health(self) -> None:
        """Tell Ray whether the replica works; one that does not is replaced.

        Raises:
            GenerationError: The engine does not work any more.
        """
        state: ServerState = self._served.state.server
        await state.check_health()

    def __del__(self) -> None:
        """End what still runs, and free the model and the sandbox; Ray calls this when the requests have ended."""
        if hasattr(self, "_served"):
            self._served.state.server.stop()
            self._opened.close()


_ReplicaWithIngress = serve.ingress()(Replica)


def app(arguments: Mapping[str, Any]) -> serve.Application:
    """Build the application; Ray Serve calls this with the arguments of ``serve run`` or of its config file.

    Args:
        arguments: The options of `nad serve --ray` by name, with underscores.

    Raises:
        ConfigurationError: An option is unknown or wrong, or two do not go together.
    """
    options = RayOptions.parse(arguments)
    options.check()
    return serve.deployment(_ReplicaWithIngress, name="NADServer", **options.deployment()).bind(options)


default_app = app({})
