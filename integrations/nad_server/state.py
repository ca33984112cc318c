"""The state that all endpoints share: the decoder, the queue, the metrics, and the names of the model."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from nad_agents.verification import Verifier
from nad_server.admission import Admission
from nad_server.errors import APIError
from nad_server.metrics import Metrics
from nad_server.nad_options import SUFFIX_OPTIONS, NADOptions
from nad_server.settings import ServerSettings

if TYPE_CHECKING:
    from nad_agents.decoder import NeuronAgreementDecoder

__all__ = ["ServerState"]

T = TypeVar("T")


@dataclass(eq=False)
class ServerState:
    """The state of one server.

    Attributes:
        decoder: The decoder that generates the answers.
        adapters: Decoders of the same model, each with its own adapter, by the names that requests use for them.
        settings: The operator's settings.
        admission: The queue before the engine.
        metrics: The metrics.
        verifier: Checks candidates in a sandbox; None checks nothing.
        runner: Runs programs in a sandbox for the selector `behaviour`.
        sandbox: The sandbox of the verifier and the runner.
        started: Unix time at which the server started.
        threads: Threads that prepare and submit requests; slow checks of other requests never occupy them.
    """

    decoder: NeuronAgreementDecoder
    settings: ServerSettings
    admission: Admission
    metrics: Metrics
    verifier: Verifier | None = None
    runner: Any = None
    sandbox: Any = None
    adapters: Mapping[str, NeuronAgreementDecoder] = field(default_factory=dict)
    started: int = field(default_factory=lambda: int(time.time()))
    threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(2, "nad-prepare"))
    _stop_futures: set[asyncio.Future[None]] = field(default_factory=set)
    _stopped: threading.Event = field(default_factory=threading.Event)

    async def run_in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run a function on `threads` without blocking the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self.threads, function, *arguments)

    async def check_health(self) -> None:
        """Check that further requests can work.

        Raises:
            GenerationError: An engine does not work any more.
        """
        for decoder in self.decoders:
            # a GPU answers when it has done what it was given before
            await asyncio.to_thread(decoder.check_health)

    def stop(self) -> None:
        """End the requests that still run, and their programs in the sandbox; each client gets an error."""
        if self._stopped.is_set():
            return
        self._stopped.set()
        for future in list(self._stop_futures):
            _set_done(future)
        if self.sandbox is not None:
            # closing waits for the programs that it ends
            threading.Thread(target=self.sandbox.close, name="nad-close-sandbox").start()

    @contextmanager
    def until_stopped(self) -> Iterator[asyncio.Future[None]]:
        """Yield a future that is done as soon as a running request has to end."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._stop_futures.add(future)
        if self._stopped.is_set():
            _set_done(future)
        try:
            yield future
        finally:
            self._stop_futures.discard(future)
            future.cancel()

    @property
    def name(self) -> str:
        """The first of the model's names."""
        return self.names[0]

    @property
    def names(self) -> tuple[str, ...]:
        """The names that requests may use for the model and its adapters."""
        return (*(self.settings.model_names or (self.decoder.engine.name,)), *self.adapters)

    @property
    def decoders(self) -> tuple[NeuronAgreementDecoder, ...]:
        """The decoders of the model and its adapters; one for each engine, which those over vLLM share."""
        return tuple({id(one.engine): one for one in (*self.adapters.values(), self.decoder)}.values())

    def serving(self, model: str) -> ServerState:
        """Return the state for requests to a model: it shares queue, metrics and futures, and has the model's decoder.

        Args:
            model: A name of the model or of an adapter, possibly followed by options.

        Raises:
            APIError: The model does not exist.
        """
        name, _, _ = model.partition("@")
        if name not in self.names:
            message = f"the model {name!r} does not exist; this server has {', '.join(self.names)}"
            raise APIError(404, message, code="model_not_found", param="model")
        if name not in self.adapters:
            return self
        settings = self.settings.model_copy(update={"model_names": (name,)})
        return replace(self, decoder=self.adapters[name], adapters={}, settings=settings)

    def options(self, model: str, given: NADOptions | None) -> NADOptions:
        """Return the NAD options of a request: those in its body, else those after the model's name.

        Args:
            model: A name of the model, possibly followed by options, as in ``name@n=16,selector=medoid``.
            given: The options of the body.

        Raises:
            APIError: The options after the model's name are invalid.
        """
        _, _, suffix = model.partition("@")
        if not suffix:
            return given or NADOptions()
        options = _suffix_options(suffix)
        return options.model_copy(update=given.model_dump(exclude_unset=True)) if given else options


def _suffix_options(suffix: str) -> NADOptions:
    values: dict[str, Any] = {}
    for option in suffix.split(","):
        name, equals, value = option.partition("=")
        if not equals or name.strip() not in SUFFIX_OPTIONS:
            message = f"{option!r} behind the model's name is no option; write name@n=16,selector=medoid"
            raise APIError(400, message, code="invalid_value", param="model")
        values[name.strip()] = value.strip()
    try:
        # pydantic reads numbers from text
        return NADOptions(**values)
    except ValidationError as error:
        problem = error.errors()[0]
        message = f"behind the model's name, {problem['loc'][0]}: {problem['msg']}"
        raise APIError(400, message, code="invalid_value", param="model") from error


def _set_done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
