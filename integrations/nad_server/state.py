"""What every endpoint shares: the decoder, who may come in, what is counted, and the names of the model."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from nad_agents.verification import Verifier
from nad_server.admission import Admission
from nad_server.errors import APIError
from nad_server.metrics import Metrics
from nad_server.protocol import NADOptions
from nad_server.settings import ServerSettings

if TYPE_CHECKING:
    from nad_agents.decoder import NeuronAgreementDecoder

__all__ = ["ServerState"]

T = TypeVar("T")
_NESTED = set(NADOptions.model_fields) - {"selector_options"}


@dataclass(eq=False)
class ServerState:
    """A decoder that is served.

    Attributes:
        decoder: answers.
        settings: the operator's.
        admission: the queue before the engine.
        metrics: what is counted.
        verifier: checks candidates, in a sandbox; None checks nothing.
        runner: runs programs for the selector `behaviour`, in a sandbox.
        sandbox: that of the verifier and the runner.
        started: Unix time.
    """

    decoder: NeuronAgreementDecoder
    settings: ServerSettings
    admission: Admission
    metrics: Metrics
    verifier: Verifier | None = None
    runner: Any = None
    sandbox: Any = None
    started: int = field(default_factory=lambda: int(time.time()))
    _ends: set[asyncio.Future[None]] = field(default_factory=set)
    _stopped: bool = False
    _threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(2, "nad-prepare"))

    async def prepare(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run what a request needs before it can be queued, on threads that slow checks of others never occupy."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    def stop(self) -> None:
        """End what still runs, programs in the sandbox included; its callers are told."""
        if self._stopped:
            return
        self._stopped = True
        for end in list(self._ends):
            _set(end)
        if self.sandbox is not None:
            # it waits for the programs that it ends
            threading.Thread(target=self.sandbox.close, name="nad-close-sandbox").start()

    @contextmanager
    def until_stopped(self) -> Iterator[asyncio.Future[None]]:
        """A future that is done when what runs has to end."""
        end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ends.add(end)
        if self._stopped:
            _set(end)
        try:
            yield end
        finally:
            self._ends.discard(end)
            end.cancel()

    @property
    def name(self) -> str:
        """The name under which the model is listed."""
        return self.names[0]

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that the model answers to."""
        return self.settings.model_names or (self.decoder.engine.name,)

    def options(self, model: str, given: NADOptions | None) -> NADOptions:
        """NAD's options of a request: those of its body, then those behind the model's name.

        Args:
            model: a name, or one with options behind it, as in ``name@n=16,selector=medoid``.
            given: of the body.

        Raises:
            APIError: there is no such model, or the options are wrong.
        """
        name, _, suffix = model.partition("@")
        if name not in self.names:
            message = f"the model {name!r} does not exist; this server has {', '.join(self.names)}"
            raise APIError(404, message, code="model_not_found", param="model")
        if not suffix:
            return given or NADOptions()
        found: dict[str, str] = {}
        for part in suffix.split(","):
            key, equals, value = part.partition("=")
            if not equals or key.strip() not in _NESTED:
                message = f"{part!r} behind the model's name is no option; write name@n=16,selector=medoid"
                raise APIError(400, message, code="invalid_value", param="model")
            found[key.strip()] = value.strip()
        try:
            options = NADOptions(**found)  # type: ignore[arg-type] # pydantic reads numbers from text
        except ValidationError as error:
            problem = error.errors()[0]
            message = f"behind the model's name, {problem['loc'][0]}: {problem['msg']}"
            raise APIError(400, message, code="invalid_value", param="model") from error
        return options.model_copy(update=given.model_dump(exclude_unset=True)) if given else options


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
