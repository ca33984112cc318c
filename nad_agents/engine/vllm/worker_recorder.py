"""Record the activated neurons and signals of every token in a vLLM worker, for the requests that need them.

The runner calls the recorder twice per step. Before the forward pass, `begin_step` receives which rows emit a token of
which request; when the logits are computed, `end_step` reads the activations of these rows from the buffer. The data
stays on the worker's device until the engine fetches it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nad_agents.engine.hf.signals import token_signals
from nad_agents.engine.vllm.activation_buffer import ActivationBuffer
from nad_agents.engine.vllm.request_options import EXTRA_ARG, RequestOptions
from nad_agents.engine.vllm.step_neurons import Gather, step_neurons
from nad_agents.neurons.recording_config import RecordingConfig

__all__ = ["RecordedModel", "WorkerRecorder", "emitted_positions"]

_KEPT_REQUESTS = 4096
"""Largest number of ended requests whose data is kept for fetching; beyond it the oldest are removed."""


def emitted_positions(
    computed: NDArray[np.integer], scheduled: NDArray[np.integer], prompt_lengths: NDArray[np.integer]
) -> NDArray[np.int64]:
    """Return which token of its answer each row emits; negative if a part of the prompt is still unread.

    Args:
        computed: For each request, the number of tokens in the cache before the step.
        scheduled: For each request, the number of tokens that the step computes.
        prompt_lengths: For each request, the number of prompt tokens.
    """
    return computed.astype(np.int64) + scheduled.astype(np.int64) - prompt_lengths.astype(np.int64)


@dataclass(frozen=True)
class RecordedModel:
    """The recordable neurons of the worker's model.

    Attributes:
        widths: Number of neurons of each layer on all tensor-parallel workers together.
        buffer: Buffer to which the forward pass copies activations; None if the model cannot be recorded.
        first_neurons: Index within each layer of this worker's first neuron.
        gather: Function that collects the parts of all tensor-parallel workers; None if there is one worker.
        refusal: Why the model cannot be recorded; empty if it can.
        signals: Whether the signals of its tokens can be recorded, also if its neurons cannot.
    """

    widths: tuple[int, ...] = ()
    buffer: ActivationBuffer | None = None
    first_neurons: tuple[int, ...] = ()
    gather: Gather | None = None
    refusal: str = ""
    signals: bool = True

    def neurons(self, rows: torch.Tensor | slice, config: RecordingConfig) -> torch.Tensor:
        """Return the activated neurons of some rows of the buffer, int32 [R, k]."""
        assert self.buffer is not None
        first, end = config.layers or (0, len(self.widths))
        return step_neurons(
            self.buffer.activations(rows, first, end),
            config,
            stride=max(self.widths[first:end]),
            first_neurons=self.first_neurons[first:end],
            gather=self.gather,
        )


@dataclass(eq=False)
class _Block:
    """The data of one step for the rows that share a config; it moves to host memory when it is first fetched."""

    neurons: torch.Tensor | None  # int32 [R, k]
    signals: torch.Tensor | None  # float32 [R, 3]

    def on_host(self) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        self.neurons = None if self.neurons is None else self.neurons.cpu()
        self.signals = None if self.signals is None else self.signals.cpu()
        return self.neurons, self.signals


@dataclass(eq=False)
class _Record:
    """The data of one request: the block and the row for each position of the answer."""

    options: RequestOptions
    prompt_length: int
    rows: dict[int, tuple[_Block, int]] = field(default_factory=dict)
    taken: int = 0


class WorkerRecorder:
    """Records those requests of one worker whose options request it.

    Args:
        model: The recordable neurons of the worker's model.
    """

    def __init__(self, model: RecordedModel) -> None:
        self._model = model
        self._records: dict[str, _Record] = {}
        self._keys: dict[str, str] = {}
        self._refused: dict[str, str] = {}
        self._ended: dict[str, None] = {}
        self._step: list[tuple[int, int, _Record]] = []  # row, position, record

    @property
    def records(self) -> bool:
        """Whether anything can be recorded."""
        return self._model.signals

    # --- called by the runner ---

    def add_request(self, request_id: str, extra_args: Mapping[str, Any] | None, prompt_length: int) -> None:
        """Register a request that enters the batch; a preempted request enters again.

        Args:
            request_id: The request's id in the runner.
            extra_args: `SamplingParams.extra_args`.
            prompt_length: Number of prompt tokens.
        """
        if not extra_args or EXTRA_ARG not in extra_args or request_id in self._records:
            return
        options = RequestOptions.parse(extra_args[EXTRA_ARG])
        if isinstance(options, str):
            # an exception here would end the engine for all requests
            self._refused[request_id] = options
            return
        self._records[request_id] = _Record(options, prompt_length)
        if options.key:
            self._keys[options.key] = request_id

    def end_requests(self, request_ids: Sequence[str]) -> None:
        """Register requests that have ended; their data stays until it is fetched."""
        for request_id in request_ids:
            self._refused.pop(request_id, None)
            if request_id in self._records:
                self._ended[request_id] = None
        while len(self._ended) > _KEPT_REQUESTS:
            oldest = next(iter(self._ended))
            self.forget([oldest])

    def prompt_length(self, request_id: str) -> int:
        """Return the number of prompt tokens of a request that is recorded; 0 for any other."""
        record = self._records.get(request_id)
        return 0 if record is None else record.prompt_length

    def begin_step(self, request_ids: Sequence[str], positions: NDArray[np.int64], rows: torch.Tensor) -> None:
        """Prepare the next forward pass.

        Args:
            request_ids: The requests of the step's batch, in the order of its logits.
            positions: Which token of its answer each request emits, int64 [R]; negative for none.
            rows: Index among the step's tokens of the row that emits the token, int64 [R] on the worker's device.
        """
        self._step = [
            (row, int(position), record)
            for row, (request_id, position) in enumerate(zip(request_ids, positions, strict=True))
            if position >= 0 and (record := self._records.get(request_id)) is not None and position >= record.taken
        ]
        buffer = self._model.buffer
        if buffer is not None:
            buffer.select(rows if any(record.options.record for _, _, record in self._step) else None)

    def end_step(self, logits: torch.Tensor | None) -> None:
        """Store the neurons of the activations in the buffer, and the signals of the logits.

        Args:
            logits: float [R, vocabulary]; None on a worker that does not get them.
        """
        step, self._step = self._step, []
        if not step:
            return
        by_config: dict[RecordingConfig | None, list[tuple[int, int, _Record]]] = {}
        for entry in step:
            by_config.setdefault(entry[2].options.recording, []).append(entry)
        for config, entries in by_config.items():
            block = self._block(config, [row for row, _, _ in entries], logits)
            for place, (_, position, record) in enumerate(entries):
                record.rows[position] = (block, place)

    def _block(self, recording: RecordingConfig | None, rows: list[int], logits: torch.Tensor | None) -> _Block:
        neurons = signals = None
        # mostly all requests of a step record, and a slice copies nothing
        together = rows == list(range(len(rows)))
        if recording is not None and self._model.buffer is not None:
            device = self._model.buffer.slots[0].device
            at = slice(len(rows)) if together else torch.tensor(rows, device=device)
            neurons = self._model.neurons(at, recording)
        if logits is not None:
            chosen = logits[: len(rows)] if together else logits[torch.tensor(rows, device=logits.device)]
            found = token_signals(chosen.float())
            signals = torch.stack([found.entropy, found.self_certainty, found.confidence], dim=-1)
        return _Block(neurons, signals)

    # --- called by the engine, through vLLM's collective_rpc ---

    def describe(self) -> dict[str, Any]:
        """Return the number of neurons of each layer, or the reason why the model cannot be recorded."""
        model = self._model
        return {"widths": list(model.widths), "refusal": model.refusal, "signals": model.signals}

    def take(self, request_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return and remove the data recorded for some requests since the last call.

        Args:
            request_ids: The requests' ids in this worker, or the keys of their options.

        Returns:
            For each request: `start`, the position of the first token; `tokens`, their number T; `neurons`, the bytes
            of int32 [T, k]; and `signals`, the bytes of float32 [T, 3] (entropy, self-certainty, confidence; nats),
            empty on a worker that has no logits. An unknown request has no entry.
        """
        found = {}
        for request_id in request_ids:
            record = self._records.get(self._keys.get(request_id, request_id))
            if record is None:
                continue
            start, end = record.taken, record.taken
            neurons, signals = [], []
            while end in record.rows:
                block, row = record.rows.pop(end)
                host_neurons, host_signals = block.on_host()
                if host_neurons is not None:
                    neurons.append(host_neurons[row].numpy())
                if host_signals is not None:
                    signals.append(host_signals[row].numpy())
                end += 1
            record.taken = end
            found[request_id] = {
                "start": start,
                "tokens": end - start,
                "neurons": np.stack(neurons).tobytes() if neurons else b"",
                "signals": np.stack(signals).tobytes() if signals else b"",
            }
        return found

    def forget(self, request_ids: Sequence[str]) -> None:
        """Free the data kept for some requests."""
        for name in request_ids:
            request_id = self._keys.get(name, name)
            record = self._records.pop(request_id, None)
            self._ended.pop(request_id, None)
            if record is not None:
                self._keys.pop(record.options.key, None)
