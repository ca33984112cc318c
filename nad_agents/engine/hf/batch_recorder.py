"""Records the neurons of a batch: which layers to tap, and whose neurons a full buffer holds.

Generations of one batch may record different layers with different scores. The tap copies the layers that any of them
wants; the rows of generations that record the same are then reduced together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from nad_agents.engine.hf.available_memory import available_device_memory
from nad_agents.engine.hf.decoding_steps import DecodingSteps
from nad_agents.engine.hf.generation import HFGeneration
from nad_agents.neurons.architectures import (
    FeedForward,
    Unembedding,
    find_feed_forwards,
    find_unembedding,
    verify_feed_forwards,
)
from nad_agents.neurons.recorder import BUFFER_BYTES, activated_neurons, neuron_layout
from nad_agents.neurons.recording_config import RecordingConfig
from nad_agents.neurons.tap import ActivationTap, LayerActivations
from nad_agents.rollouts import NeuronLayout
from nad_agents.types import ScoreName

__all__ = ["BatchRecorder", "StepRecorder"]

_GPU_BUFFER_BYTES = 2**30
"""Greatest size of the buffer on a GPU: 15 steps of 64 rows of a model of 7 billion parameters."""


class BatchRecorder:
    """Finds a model's feed-forward blocks when they are first needed and records from them.

    Args:
        model: A decoder-only model.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._blocks: tuple[FeedForward, ...] | None = None
        self._verified = False
        self._unembedding: Unembedding | None = None
        self._tap: ActivationTap | None = None

    @property
    def blocks(self) -> tuple[FeedForward, ...]:
        """The neurons of the model's layers that have a feed-forward block."""
        if self._blocks is None:
            self._blocks = find_feed_forwards(self._model)
        return self._blocks

    def verify(self, recording: RecordingConfig | None) -> None:
        """Check once, on a few tokens, that the blocks account for what the model's feed-forward layers compute.

        Raises:
            UnsupportedModelError: The blocks do not account for it, or `layout` raises it.
        """
        if recording is None:
            return
        if not self._verified:
            self._blocks = verify_feed_forwards(self._model, self.blocks)
            self._verified = True
        self.layout(recording)

    def layout(self, recording: RecordingConfig | None) -> NeuronLayout:
        """Return how the recorded neurons are numbered; an empty layout where nothing is recorded.

        Raises:
            UnsupportedModelError: The model's feed-forward blocks are not fully understood, or there is no readable
                unembedding or down projection for the attribution score.
            ConfigurationError: The layer range does not fit the model.
        """
        if recording is None:
            return NeuronLayout(0, 0)
        layout = neuron_layout(self.blocks, recording)
        if recording.score == "attribution":
            if self._unembedding is None:
                self._unembedding = find_unembedding(self._model)
            for block in self.recorded_blocks(layout):
                block.check_attribution()
        return layout

    def recorded_blocks(self, layout: NeuronLayout) -> tuple[FeedForward, ...]:
        """Return the blocks whose neurons a layout numbers."""
        if not layout.n_layers:
            return ()
        return self.blocks[layout.first_layer : layout.first_layer + layout.n_layers]

    @contextmanager
    def record(self, generations: Sequence[HFGeneration], steps: DecodingSteps) -> Iterator[StepRecorder | None]:
        """Tap the model while the block runs.

        Args:
            generations: Every generation in the batch, in the order of their rows.
            steps: The steps that are taken in the block.

        Yields:
            The recorder to tell of every step, or None if no generation records.
        """
        recording = [generation for generation in generations if generation.request.recording is not None]
        if not recording:
            yield None
            return
        layers = (
            min(generation.layout.first_layer for generation in recording),
            max(generation.layout.first_layer + generation.layout.n_layers for generation in recording),
        )
        scores = [g.request.recording.score for g in recording if g.request.recording is not None]
        if self._tap is None:
            self._tap = ActivationTap(self._model, self.blocks)
        with self._tap as tap:
            room = tap.open(
                steps.tokens.shape[1],
                steps.limit,
                layers,
                dtype=self.activation_dtype,
                device=self._model.device,
                limit=self._buffer_bytes(scores),
            )
            recorder = StepRecorder(self, tap, generations, steps, room)
            yield recorder
            recorder.reduce()

    def free(self) -> None:
        """Free the buffer's memory."""
        if self._tap is not None:
            self._tap.free()

    def neurons(
        self,
        recording: RecordingConfig,
        layout: NeuronLayout,
        layers: Sequence[LayerActivations],
        tokens: torch.Tensor,
        first_layer: int,
    ) -> torch.Tensor:
        """Return neuron ids, int32 [steps, rows, k].

        Args:
            recording: Which neurons are recorded.
            layout: How they are numbered.
            layers: Activations of the rows, one entry per tapped layer.
            tokens: int64 [steps, rows], the tokens that the rows emitted.
            first_layer: Position of the first tapped layer among `blocks`.
        """
        start = layout.first_layer - first_layer
        return activated_neurons(
            layers[start : start + layout.n_layers],
            tokens,
            recording,
            layout,
            self.recorded_blocks(layout),
            unembedding=self._unembedding,
        )

    def _buffer_bytes(self, scores: Iterable[ScoreName]) -> int:
        """Return the greatest size of the buffer.

        A CPU's buffer is to stay in its cache. On a GPU every reduction costs as many launches as several steps of the
        model, so the buffer is to hold a chunk, as far as an eighth of the free memory allows.
        """
        least = max(BUFFER_BYTES[score] for score in scores)
        device = self._model.device
        if device.type != "cuda":
            return least
        assert self._tap is not None
        free = available_device_memory(device) or 0
        return max(least, min(_GPU_BUFFER_BYTES, (free + self._tap.held_bytes) // 8))

    @property
    def activation_dtype(self) -> torch.dtype:
        """The dtype of the neurons' activations; the input of a quantized projection has the model's dtype."""
        first = self.blocks[0]
        if first.dense is None:
            return first.routed.dtype if first.routed is not None else torch.float32
        weight: Any = getattr(first.dense.down, "weight", None)
        plain = isinstance(weight, torch.Tensor) and weight.is_floating_point() and weight.itemsize > 1
        return weight.dtype if plain else self._model.dtype


class StepRecorder:
    """Counts the steps that the tap has copied and turns a full buffer into neuron ids.

    Args:
        recorder: Knows the model's blocks.
        tap: An open tap.
        generations: Every generation in the batch, in the order of their rows.
        steps: The steps that are taken meanwhile.
        room: Number of steps that the tap's buffer holds.
    """

    def __init__(
        self,
        recorder: BatchRecorder,
        tap: ActivationTap,
        generations: Sequence[HFGeneration],
        steps: DecodingSteps,
        room: int,
    ) -> None:
        self._recorder = recorder
        self._tap = tap
        self._generations = generations
        self._steps = steps
        self._room = room

    def copy_step(self, layers: Sequence[LayerActivations]) -> None:
        """Take the activations of a step that ran without the tap.

        Args:
            layers: Activations of one step with the rows of the batch, an entry for every block of the model.
        """
        self._tap.copy_step(layers)

    def step_done(self) -> None:
        """Go to the next slot of the buffer once every row of a step has its token."""
        if self._tap.next_step() == self._room:
            self.reduce()

    def reduce(self) -> None:
        """Hand the neuron ids of the steps in the buffer to their generations and empty it."""
        layers = self._tap.take()
        steps = len(layers[0].values)
        if not steps:
            return
        tokens = self._steps.recent_tokens(steps)
        start = 0
        live = [generation for generation in self._generations if generation.live]
        # neighbors that record the same are reduced together
        for (recording, layout), run in groupby(
            live, lambda generation: (generation.request.recording, generation.layout)
        ):
            members = list(run)
            end = start + sum(len(generation.live) for generation in members)
            if recording is not None:
                part = [layer.rows(slice(start, end)) for layer in layers]
                found = self._recorder.neurons(recording, layout, part, tokens[:, start:end], self._tap.first_layer)
                ids: NDArray[np.int32] = found.cpu().numpy()
                at = 0
                for generation in members:
                    generation.add_neurons(ids[:, at : (at := at + len(generation.live))])
            start = end
