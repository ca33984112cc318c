"""Capture the decoding step of a model, and hold it against the model's own step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack

import torch
from transformers import Cache, PreTrainedModel

from nad_agents.engine.hf.batch_recorder import BatchRecorder
from nad_agents.engine.hf.captured.graphs import Graphs, graphs_for
from nad_agents.engine.hf.captured.self_check import CheckedSteps, agree
from nad_agents.engine.hf.captured.static_cache import StaticBuffers
from nad_agents.engine.hf.captured.steps_of_rows import StepGraph, StepsOfRows
from nad_agents.engine.hf.prefix.attention import shared_prefix_attention
from nad_agents.engine.hf.prefix.cache import SharedPrefixCache
from nad_agents.neurons.tap import ActivationTap, LayerActivations, empty_step

__all__ = ["Forward", "StepCapture"]

_CHECKED_ROWS = 16
"""Greatest number of rows that are held against the model's own; all go through the same kernels."""

Forward = Callable[[torch.Tensor, torch.Tensor, None, Cache], torch.Tensor]
"""Runs the model on tokens [rows, 1] at positions [rows, 1], without a mask, and returns float32 [rows, vocabulary]."""


class StepCapture:
    """Captures steps that share their buffers, logits and room for activations.

    Args:
        model: The model.
        forward: Runs the model.
        recorder: Knows the model's feed-forward blocks.
        buffers: The tokens, positions, keys and values of the steps.
    """

    def __init__(
        self, model: PreTrainedModel, forward: Forward, recorder: BatchRecorder, buffers: StaticBuffers
    ) -> None:
        self._model = model
        self._forward = forward
        self._recorder = recorder
        self._buffers = buffers
        self._tap: ActivationTap | None = None
        self.free()

    def free(self) -> None:
        """Forget what graphs need beside the buffers; those that were captured must not be used afterwards."""
        # other graphs get other memory for their intermediate results
        self._graphs: Graphs | None = None
        self._logits: torch.Tensor | None = None
        self._activations: list[LayerActivations] = []
        if self._tap is not None:
            self._tap.free()

    def capture(self, cache: SharedPrefixCache, rows: int, length: int, *, records: bool) -> StepGraph:
        """Capture a step; the buffers have to hold the rows and their positions, which the capture leaves as they are.

        Args:
            cache: The cache of the batch, whose layers the step has.
            rows: Number of rows of the step, used or not.
            length: Number of positions that it looks at.
            records: Whether it copies the activations of every layer.

        Raises:
            Exception: Whatever the model's code or the device does not permit.
        """
        device = self._model.device
        static = self._buffers.step_cache(cache, rows, length)
        tokens, positions = self._buffers.tokens[:rows, None], self._buffers.positions[:rows, None]
        if self._graphs is None:
            self._graphs = graphs_for(device)
        assert self._graphs is not None
        with ExitStack() as entered:
            entered.enter_context(shared_prefix_attention(self._model, static))
            if self._logits is None:
                static.begin_step()
                found = self._forward(tokens, positions, None, static)
                self._logits = found.new_zeros(self._buffers.rows, found.shape[1])
            logits = self._logits[:rows]
            activations: list[LayerActivations] = []
            if records:
                if not self._activations:
                    self._activations = self._room_for_activations(self._buffers.rows)
                activations = [layer.rows(slice(rows)) for layer in self._activations]
                self._record_into(activations, entered)

            def step() -> None:
                static.begin_step()
                logits.copy_(self._forward(tokens, positions, None, static))

            replay = self._graphs.capture(step)
        return StepGraph(replay, logits, activations)

    def gain(self, taken: StepsOfRows, tokens: torch.Tensor, steps: int) -> float | None:
        """Take some captured steps and as many of the model's own, and forget them.

        Args:
            taken: Takes the captured steps.
            tokens: int64 [rows], the tokens that every step reads.
            steps: Number of steps.

        Returns:
            How many times as fast the captured ones are; None if they do not compute what the model's own compute.
        """
        assert self._graphs is not None
        cache, device, synchronize = taken.cache, self._model.device, self._graphs.synchronize
        # the logits of all rows in all steps might not fit into memory
        checked = slice(None, None, -(-cache.rows // _CHECKED_ROWS))

        def captured_step() -> torch.Tensor:
            logits = taken.step(tokens)
            cache.advance(1)
            return logits[checked]

        def own_step() -> torch.Tensor:
            logits = self._forward(tokens[:, None], cache.positions(1, device), None, cache)
            cache.advance(1)
            return logits[checked]

        with taken.trial():
            # the first launch of a graph also moves it to the device
            captured_step()
        with taken.trial():
            captured = CheckedSteps.take(steps, captured_step, lambda: _dense(taken.activations, checked), synchronize)
        own_activations: list[LayerActivations] = []
        with ExitStack() as entered:
            if taken.activations:
                own_activations = self._room_for_activations(cache.rows)
                self._record_into(own_activations, entered)
            entered.enter_context(shared_prefix_attention(self._model, cache))
            with taken.trial():
                # the first step of a shape may choose kernels
                own_step()
            with taken.trial():
                own = CheckedSteps.take(steps, own_step, lambda: _dense(own_activations, checked), synchronize)
        dtype = self._model.dtype
        exact = agree(captured.logits, own.logits, dtype) and agree(captured.activations, own.activations, dtype)
        return own.seconds / captured.seconds if exact else None

    def _room_for_activations(self, rows: int) -> list[LayerActivations]:
        dtype = self._recorder.activation_dtype
        return empty_step(self._recorder.blocks, rows, dtype=dtype, device=self._model.device)

    def _record_into(self, activations: Sequence[LayerActivations], entered: ExitStack) -> None:
        """Tap the model until the stack is left."""
        if self._tap is None:
            self._tap = ActivationTap(self._model, self._recorder.blocks)
        entered.enter_context(self._tap).open_on(activations)


def _dense(layers: Sequence[LayerActivations], rows: slice) -> torch.Tensor:
    """Return the activations of some rows in the layers without experts, [rows, width of all]."""
    found = [layer.values[0, rows] for layer in layers if layer.experts is None]
    return torch.cat(found, dim=-1) if found else torch.zeros(1, 0)
