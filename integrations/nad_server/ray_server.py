"""The process of `nad serve --ray`: it deploys the server on a Ray cluster, and withdraws it at a signal to stop."""

from __future__ import annotations

import signal
import threading
import time
from typing import Any

from rich.console import Console

from nad_agents.exceptions import ConfigurationError, ModelLoadError
from nad_agents.ray_cluster import connected
from nad_server.ray_options import RayOptions

__all__ = ["serve_on_ray"]

_APPLICATION = "nad"
"""Name of the application on the cluster."""


def serve_on_ray(options: RayOptions, *, port: int, address: str | None, console: Console) -> None:
    """Deploy the server on a Ray cluster, and serve until a signal to stop; running requests then end first.

    Args:
        options: The options.
        port: The port to listen on, on each machine with a replica.
        address: Address of the cluster; see `nad_agents.ray_cluster.connected`.
        console: Shows what is being done.

    Raises:
        MissingDependencyError: The extra `ray` or `server` is not installed.
        ConfigurationError: The port is 0, or no cluster answers at the address.
        ModelLoadError: No replica could be started.
    """
    if port == 0:
        msg = "--port 0 takes any free port, and on a Ray cluster each machine would take another; name a port"
        raise ConfigurationError(msg)
    with connected(address) as ray:
        from nad_server.ray_app import app

        serve = ray.serve
        serve.start(http_options={"host": options.host, "port": port})
        try:
            _deploy(serve, app(options.model_dump()), options.model, console)
            console.print(f"running on http://{options.host}:{port}", highlight=False)
            _wait_for_signal()
        finally:
            _withdraw(serve, options.shutdown_seconds, console)


def _deploy(serve: Any, application: Any, model: str, console: Console) -> None:
    try:
        with console.status(f"Starting replicas of {model} ..."):
            serve.run(application, name=_APPLICATION)
    except RuntimeError as error:
        msg = f"no replica of {model} could be started: {error}"
        raise ModelLoadError(msg) from error


def _wait_for_signal() -> None:
    stopped = threading.Event()
    before = {number: signal.signal(number, lambda *_: stopped.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        stopped.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _withdraw(serve: Any, seconds: float, console: Console) -> None:
    """Take the application off the cluster, and wait until its replicas have ended their requests."""
    with console.status("Waiting for running requests ..."):
        serve.delete(_APPLICATION, _blocking=False)
        # Ray ends the replicas that are not done in time
        end = time.monotonic() + seconds + 30
        while _APPLICATION in serve.status().applications and time.monotonic() < end:
            time.sleep(0.2)
        if not serve.status().applications:
            serve.shutdown()
