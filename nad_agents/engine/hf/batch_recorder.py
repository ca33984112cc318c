"""Records the neurons of a batch: which layers to tap, and whose neurons a full buffer holds.

Generations of one batch may record different layers with different scores. The tap copies the layers that any of them
wants; each generation then reduces its own rows and layers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import PreTrainedModel

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

__all__ = ["BatchRecorder", "StepRecorder"]


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
    def record(self, generations: Sequence[HFGeneration], rows: int, steps: int) -> Iterator[StepRecorder | None]:
        """Tap the model while the block runs.

        Args:
            generations: Every generation in the batch, in the order of their rows.
            rows: Rows of the batch.
            steps: Greatest number of steps in the block.

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
        limit = max(BUFFER_BYTES[g.request.recording.score] for g in recording if g.request.recording is not None)
        if self._tap is None:
            self._tap = ActivationTap(self._model, self.blocks)
        with self._tap as tap:
            room = tap.open(rows, steps, layers, dtype=self._activation_dtype(), device=self._model.device, limit=limit)
            recorder = StepRecorder(self, tap, generations, room)
            yield recorder
            recorder.reduce()

    def free(self) -> None:
        """Free the buffer's memory."""
        if self._tap is not None:
            self._tap.free()

    def neurons(
        self, generation: HFGeneration, layers: Sequence[LayerActivations], first_layer: int, rows: slice
    ) -> torch.Tensor | None:
        """Return the neuron ids of one generation, int32 [steps, rows, k]; None if it records nothing.

        Args:
            generation: The generation.
            layers: Activations of the whole batch, one entry per tapped layer.
            first_layer: Position of the first tapped layer among `blocks`.
            rows: The generation's rows in the batch.
        """
        recording, layout = generation.request.recording, generation.layout
        if recording is None or rows.start == rows.stop:
            return None
        start = layout.first_layer - first_layer
        return activated_neurons(
            [layer.rows(rows) for layer in layers[start : start + layout.n_layers]],
            generation.recent_tokens(len(layers[0].values)),
            recording,
            layout,
            self.recorded_blocks(layout),
            unembedding=self._unembedding,
        )

    def _activation_dtype(self) -> torch.dtype:
        """Return the dtype of the neurons' activations; the input of a quantized projection has the model's dtype."""
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
        room: Number of steps that the tap's buffer holds.
    """

    def __init__(
        self, recorder: BatchRecorder, tap: ActivationTap, generations: Sequence[HFGeneration], room: int
    ) -> None:
        self._recorder = recorder
        self._tap = tap
        self._generations = generations
        self._room = room

    def step_done(self) -> None:
        """Go to the next slot of the buffer once every row of a step has its token."""
        if self._tap.next_step() == self._room:
            self.reduce()

    def reduce(self) -> None:
        """Hand the neuron ids of the steps in the buffer to their generations and empty it."""
        layers = self._tap.take()
        if not len(layers[0].values):
            return
        at = 0
        for generation in self._generations:
            rows = slice(at, at := at + len(generation.live))
            ids = self._recorder.neurons(generation, layers, self._tap.first_layer, rows)
            if ids is not None:
                generation.add_neurons(ids)
