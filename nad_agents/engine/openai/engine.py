"""The engine over a server with OpenAI's protocol: Ollama, llama.cpp, LM Studio, vLLM, or a hosted one.

The N candidates of a prompt are N streamed requests, each with its own seed. A server shows no neurons. Its
log-probabilities become `logprobs`, and those of the likeliest tokens give `confidences`.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nad_agents.engine.base import Generation, GenerationRequest
from nad_agents.engine.openai.answer_pieces import AnswerPiece, PieceReader, PieceTable
from nad_agents.engine.openai.request_body import check_supported, request_body
from nad_agents.engine.served_model import ServedModel
from nad_agents.engine.streamed_engine import StreamedEngine, StreamedPrefill
from nad_agents.engine.streamed_generation import StreamedGeneration
from nad_agents.exceptions import ConfigurationError, GenerationError, UnsupportedModelError
from nad_agents.neurons.recording_config import RecordingConfig
from nad_agents.rollouts import FinishReason, NeuronLayout
from nad_agents.selectors.base import Selector

__all__ = ["OpenAIEngine"]

_WAIT_SECONDS = 0.2
"""Seconds that a step waits for the next piece before the scheduler checks for cancelled requests."""

_WHOLE_DISTRIBUTION = ("entropy", "self_certainty", "tail_entropy")
"""Names of the selectors that read the probabilities of all tokens."""

_NO_SIGNAL = ("majority", "behaviour", "shortest", "first", "random")
"""Names of the selectors that read nothing but the answers."""


@dataclass(frozen=True)
class _News:
    """An event of one candidate's stream."""

    generation: StreamedGeneration
    candidate: int
    pieces: Sequence[AnswerPiece] = ()
    finish_reason: FinishReason = "running"
    usage: Mapping[str, int] = field(default_factory=dict)
    error: Exception | None = None


class OpenAIEngine(StreamedEngine):
    """Generates candidates with one model of a server; see `nad_agents.engine.base.Engine`.

    Args:
        client: An `openai.OpenAI`, which the connections' threads share.
        loaded: The model that front ends use.
        max_rows: Greatest number of requests that are sent at the same time.
        logprobs: Whether to request log-probabilities; the server must then return them.
        top_logprobs: Number of likeliest tokens whose log-probabilities are also requested.

    Attributes:
        loaded: See above.
    """

    def __init__(self, client: Any, loaded: ServedModel, *, max_rows: int, logprobs: bool, top_logprobs: int) -> None:
        super().__init__(loaded, count_prompts=False)
        self._client = client
        self._logprobs = logprobs
        self._top_logprobs = top_logprobs
        self._threads = ThreadPoolExecutor(max_rows, thread_name_prefix="nad-openai")
        self._lock = threading.Lock()
        self._submitted = 0
        self._closed = False
        self._news: queue.Queue[_News] = queue.Queue()
        self._tables: dict[StreamedGeneration, PieceTable] = {}
        self._stopped: dict[tuple[StreamedGeneration, int], threading.Event] = {}

    @property
    def context_length(self) -> int | None:
        """None, since the server itself refuses prompts that are too long."""
        return None

    @property
    def records_neurons(self) -> bool:
        """Whether the engine can record neurons; always false, since a server does not show them."""
        return False

    def check_selector(self, selector: Selector) -> None:
        """Refuse a selector that reads data which servers do not return.

        Raises:
            ConfigurationError: The selector does not work with a server; the message names those that do.
        """
        if selector.needs_neurons and selector.name != "auto":
            reason = "compares activated neurons, which no server shows"
        elif selector.name in _WHOLE_DISTRIBUTION:
            reason = "reads the probability of every token, of which servers show 20 at most"
        elif selector.name in ("auto", "mean_logprob") and not self._logprobs:
            reason = "reads log-probabilities, which logprobs=False of engine_options does not ask for"
        elif selector.name == "deepconf" and not self._top_logprobs:
            reason = "reads the likeliest tokens, for which top_logprobs=20 of engine_options has to ask the server"
        else:
            return
        known = ["auto", "mean_logprob"] * self._logprobs + ["deepconf"] * bool(self._top_logprobs) + list(_NO_SIGNAL)
        msg = f"the selector {selector.name!r} {reason}; with engine='openai' choose one of {', '.join(known)}"
        raise ConfigurationError(msg)

    def layout(self, recording: RecordingConfig | None) -> NeuronLayout:
        """Return an empty layout.

        Raises:
            UnsupportedModelError: The request records neurons.
        """
        if recording is not None:
            msg = f"{self.name} runs at a server that shows no neurons; set record=False and a selector without them"
            raise UnsupportedModelError(msg)
        return NeuronLayout(0, 0)

    def check(self, request: GenerationRequest) -> None:
        """Check a request without sending anything.

        Raises:
            ConfigurationError: The protocol cannot express an option of the request.
        """
        check_supported(request)

    def join(self, prefill: StreamedPrefill) -> StreamedGeneration:
        """Send the requests of the N candidates."""
        request = prefill.request
        table = PieceTable(request.sampling.stop)
        generation = StreamedGeneration(request, NeuronLayout(0, 0), table, lambda _generation, _candidates: None)
        self._tables[generation] = table
        return self._send(
            generation,
            {
                candidate: request_body(
                    request, seed, model=self.name, logprobs=self._logprobs, top_logprobs=self._top_logprobs
                )
                for candidate, seed in request.candidate_seeds().items()
            },
        )

    def _send(self, generation: StreamedGeneration, bodies: Mapping[int, dict[str, Any]]) -> StreamedGeneration:
        """Send the requests of a generation's candidates."""
        self._generations.append(generation)
        for candidate, body in bodies.items():
            stopped = self._stopped[generation, candidate] = threading.Event()
            self._submit(self._stream, generation, candidate, body, stopped)
        return generation

    def step(self, max_tokens: int) -> None:
        """Wait until a generation has `max_tokens` further tokens of every live candidate, or for a moment."""
        generations = [generation for generation in self._generations if generation.live]
        while not any(self._wait_is_over(one, max_tokens) for one in generations):
            try:
                self._receive(self._news.get(timeout=_WAIT_SECONDS))
            except queue.Empty:
                break
        for generation in generations:
            generation.advance(max_tokens)

    def drop(self, generation: Generation, candidates: Collection[int]) -> None:
        """Prune candidates: their connections are closed, and what they have generated is kept."""
        self._find(generation).prune(candidates)
        for candidate in candidates:
            self._stopped[self._find(generation), candidate].set()

    def release(self, generation: Generation) -> None:
        """Close the connections of a generation."""
        found = self._find(generation)
        found.prune(found.live)
        for candidate in found.candidates:
            self._stopped.pop((found, candidate)).set()
        self._generations.remove(found)
        self._tables.pop(found, None)

    def reset_after_fork(self) -> None:
        """Refuse to work in a forked process, where the threads of the connections are absent.

        Raises:
            GenerationError: Always.
        """
        msg = f"{self.name} was connected before this process was forked; construct the decoder in the worker itself"
        raise GenerationError(msg)

    def close(self) -> None:
        """End all streams, and close the connections as soon as the last of them has ended."""
        for stopped in list(self._stopped.values()):
            stopped.set()
        with self._lock:
            self._closed = True
            ended = not self._submitted
        self._threads.shutdown(wait=False)
        if ended:
            self._close_connections()

    # --- the threads of the connections ---

    def _submit(self, work: Callable[..., object], *args: Any, **kwargs: Any) -> None:
        """Let a thread do something over a connection, unless the engine is closed."""
        with self._lock:
            if self._closed:
                return
            self._submitted += 1
        self._threads.submit(work, *args, **kwargs).add_done_callback(self._on_done)

    def _on_done(self, _done: Future[object]) -> None:
        with self._lock:
            self._submitted -= 1
            ended = self._closed and not self._submitted
        if ended:
            self._close_connections()

    def _close_connections(self) -> None:
        """Close the connections; one that a thread is about to open would stay open."""
        self._client.close()

    def _stream(
        self, generation: StreamedGeneration, candidate: int, body: dict[str, Any], stopped: threading.Event
    ) -> None:
        """Read one candidate's stream into the queue until the stream ends or the candidate is dropped."""
        if stopped.is_set():
            return
        reader, reason, usage = PieceReader(body["max_tokens"]), "stop", {}
        create = self._client.completions.create if "prompt" in body else self._client.chat.completions.create
        try:
            with create(**body) as stream:
                for chunk in stream:
                    if stopped.is_set():
                        return
                    if chunk.usage is not None:
                        usage = {"prompt_tokens": chunk.usage.prompt_tokens}
                    for choice in chunk.choices[:1]:
                        reason = choice.finish_reason or reason
                        self._news.put(_News(generation, candidate, list(self._read(reader, choice))))
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to the caller who waits for it
            self._news.put(_News(generation, candidate, error=_as_generation_error(error)))
            return
        finished: FinishReason = "length" if reason == "length" else "stop"
        self._news.put(_News(generation, candidate, list(reader.end()), finished, usage))

    def _read(self, reader: PieceReader, choice: Any) -> Iterator[AnswerPiece]:
        """Yield the pieces of one chunk of a stream."""
        return reader.read(choice)

    # --- the engine's thread ---

    def _receive(self, news: _News) -> None:
        generation, candidate = news.generation, news.candidate
        if generation not in self._generations:
            return
        if news.error is not None:
            generation.error = generation.error or news.error
            return
        state, pieces = generation.candidates[candidate], news.pieces
        if self._logprobs and any(piece.from_text and np.isnan(piece.logprob) for piece in pieces):
            generation.error = GenerationError(
                f"the server gives no log-probabilities of {self.name}; set engine_options={{'logprobs': False}} and a "
                "selector that needs none, such as majority, behaviour or shortest"
            )
            return
        table = self._tables.get(generation)
        if table is None:
            numbers = [piece.token for piece in pieces if piece.token is not None]
        else:
            numbers = [table.number(piece.text) for piece in pieces]
            signals = [[np.nan, np.nan, piece.confidence] for piece in pieces]
            state.signals.append(np.array(signals, np.float32).reshape(-1, 3))
        generation.receive(candidate, numbers, [piece.logprob for piece in pieces], news.finish_reason)
        generation.prompt_tokens = news.usage.get("prompt_tokens", generation.prompt_tokens)


def _as_generation_error(error: Exception) -> GenerationError:
    message = str(error).strip().splitlines() or [type(error).__name__]
    wrapped = GenerationError(f"the server failed: {type(error).__name__}: {message[0]}")
    wrapped.__cause__ = error
    return wrapped
