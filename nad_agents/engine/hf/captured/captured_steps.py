"""Decoding steps as CUDA graphs: which graph a batch of rows takes, and what a step does beside it.

There is a graph for each rounded number of rows and positions, and one for recording steps. It is captured when it is
first needed. The first one of a number of rows has to prove itself against the model's own step; if it cannot, or if
anything fails, the engine goes on without graphs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import NamedTuple

import torch
from transformers import Cache, PreTrainedModel

from nad_agents.engine.hf.available_memory import available_device_memory
from nad_agents.engine.hf.batch_recorder import BatchRecorder, StepRecorder
from nad_agents.engine.hf.captured.graphs import Graphs, graphs_for
from nad_agents.engine.hf.captured.self_check import CHECKED_STEPS, LEAST_GAIN, CheckedSteps, agree
from nad_agents.engine.hf.captured.static_cache import StaticBuffers
from nad_agents.engine.hf.prefix.attention import shared_prefix_attention
from nad_agents.engine.hf.prefix.cache import SharedPrefixCache
from nad_agents.exceptions import GenerationError
from nad_agents.neurons.tap import ActivationTap, LayerActivations, empty_step

__all__ = ["CapturedSteps", "StepsOfRows", "length_bucket", "row_bucket"]

_logger = logging.getLogger(__name__)

_MOST_ROWS = 256
"""Rows beyond which the device is busier than the host, so that a graph would gain little."""

_POSITIONS = 256
"""Positions by which the length of what a graph attends to grows."""

_MOST_GRAPHS = 32
"""Graphs that are kept; the least recently used one makes room for another."""

_SHARE = 0.5
"""Greatest share of the available memory that the keys and values of all rows may take."""

Forward = Callable[[torch.Tensor, torch.Tensor, None, Cache], torch.Tensor]
"""Runs the model on tokens [rows, 1] at positions [rows, 1], without a mask, and returns float32 [rows, vocabulary]."""


class _Graph(NamedTuple):
    """A captured step, which reads the tokens and positions of the buffers.

    Attributes:
        replay: Takes the step.
        logits: float32 [rows, vocabulary], where it writes.
        activations: Where it writes the activations of every layer; empty unless it records.
    """

    replay: Callable[[], None]
    logits: torch.Tensor
    activations: Sequence[LayerActivations]


def row_bucket(rows: int) -> int:
    """Return the number of rows of the graph that so many rows take: the next power of two."""
    return 1 << (rows - 1).bit_length()


def length_bucket(length: int) -> int:
    """Return the number of positions of the graph that so many positions take: the next multiple of 256."""
    return length - length % -_POSITIONS


class CapturedSteps:
    """Captures the decoding steps of a model and decides which steps run captured.

    Args:
        model: A model for which `capture_obstacle` returns an empty text.
        forward: Runs the model.
        recorder: Knows the model's feed-forward blocks.
        required: Whether a step that is wrong or fails raises an error, and whether it does not have to be faster.
    """

    def __init__(
        self, model: PreTrainedModel, forward: Forward, recorder: BatchRecorder, *, required: bool = False
    ) -> None:
        self._model = model
        self._forward = forward
        self._recorder = recorder
        self._required = required
        self._device = model.device
        self._buffers = StaticBuffers(model.device)
        self._tap: ActivationTap | None = None
        self._capturing: Graphs | None = None
        self._given_up = False
        self._useful: dict[tuple[int, bool], bool] = {}
        self._drop_graphs()

    @property
    def graphs(self) -> int:
        """Number of graphs that are kept."""
        return len(self._graphs)

    def free(self) -> None:
        """Free the buffers and graphs; rows that are in the buffers keep their memory as long as they live."""
        self._drop_graphs()
        self._buffers.free()

    def prepare(
        self, cache: SharedPrefixCache, tokens: torch.Tensor, *, steps: int, left: int, records: bool
    ) -> StepsOfRows | None:
        """Get ready to take the next steps of a batch captured.

        Args:
            cache: The cache of the batch.
            tokens: int64 [rows], the tokens that the rows read next.
            steps: Greatest number of steps that are taken, at most `left`.
            left: Number of steps until a row is at its token limit.
            records: Whether neurons are recorded.

        Returns:
            None if the model has to take the steps itself.

        Raises:
            GenerationError: Captured steps are required, and capturing fails or the step is not exact.
        """
        ready = all(group.suffix for group in cache.groups) and not cache.has_prefixes
        if self._given_up or not ready or cache.rows > _MOST_ROWS:
            return None
        kind = (row_bucket(cache.rows), records)
        checked = min(CHECKED_STEPS, left)
        if not self._useful.get(kind, checked > 1):
            return None
        try:
            last = max(group.position for group in cache.groups) + max(steps, checked)
            if not self._make_room(cache, last, last - steps + left):
                return None
            taken = self._steps_of_rows(cache, length_bucket(last), records=records)
            if kind not in self._useful:
                self._useful[kind] = self._check(taken, cache, tokens, checked)
        except Exception as error:
            self.free()
            self._given_up = True
            msg = f"the decoding step could not be captured: {type(error).__name__}: {error}"
            if self._required:
                raise GenerationError(f"{msg}; leave compile=True out") from error
            _logger.info("%s; the model's own step is used", msg)
            return None
        return taken if self._useful[kind] else None

    def _make_room(self, cache: SharedPrefixCache, length: int, final: int) -> bool:
        """Move all rows into the buffers, which grow if they have to; return False if there is no memory for that.

        Args:
            cache: The cache of the batch.
            length: Number of positions that are needed now.
            final: Number of positions that will be needed at most.
        """
        buffers = self._buffers
        if cache.rows <= buffers.rows and length <= buffers.length:
            buffers.adopt(cache)
            return True
        # as a longer text takes other buffers and graphs, each time for twice the length
        rows = max(row_bucket(cache.rows), row_bucket(buffers.rows) if buffers.rows else 1)
        positions = max(length_bucket(length), min(_POSITIONS * row_bucket(-(-length // _POSITIONS)), length_bucket(final)))
        positions = max(positions, buffers.length)
        self._drop_graphs()
        available = available_device_memory(self._device)
        if available is not None:
            needed = buffers.bytes_needed(cache, rows, positions)
            if needed > _SHARE * (available + buffers.bytes_held):
                buffers.free()
                return False
        buffers.allocate(cache, rows, positions)
        return True

    def _drop_graphs(self) -> None:
        self._graphs: dict[tuple[int, int, bool], _Graph] = {}
        self._logits: torch.Tensor | None = None
        self._activations: list[LayerActivations] = []
        if self._tap is not None:
            self._tap.free()
        # other graphs get other memory for their intermediate results
        self._capturing = None

    def _steps_of_rows(self, cache: SharedPrefixCache, length: int, *, records: bool) -> StepsOfRows:
        buffers, rows = self._buffers, row_bucket(cache.rows)
        length = min(length, buffers.length)
        # a capture runs the model, which must not overwrite what the rows have stored
        buffers.set_positions(cache.positions(1, self._device)[:, 0])
        key = (rows, length, records)
        graph = self._graphs.pop(key, None) or self._capture(cache, rows, length, records=records)
        self._graphs[key] = graph
        if len(self._graphs) > _MOST_GRAPHS:
            self._graphs.pop(next(iter(self._graphs)))
        return StepsOfRows(cache, buffers, graph)

    def _capture(self, cache: SharedPrefixCache, rows: int, length: int, *, records: bool) -> _Graph:
        buffers = self._buffers
        static = buffers.step_cache(cache, rows, length)
        tokens, positions = buffers.tokens[:rows, None], buffers.positions[:rows, None]
        if self._capturing is None:
            self._capturing = graphs_for(self._device)
        assert self._capturing is not None
        with ExitStack() as entered:
            entered.enter_context(shared_prefix_attention(self._model, static))
            if self._logits is None:
                static.begin_step()
                found = self._forward(tokens, positions, None, static)
                self._logits = found.new_zeros(buffers.rows, found.shape[1])
            logits = self._logits[:rows]
            activations: list[LayerActivations] = []
            if records:
                activations = self._room_for_activations(rows)
                assert self._tap is not None
                entered.enter_context(self._tap).open_on(activations)

            def step() -> None:
                static.begin_step()
                logits.copy_(self._forward(tokens, positions, None, static))

            replay = self._capturing.capture(step)
        return _Graph(replay, logits, activations)

    def _room_for_activations(self, rows: int) -> list[LayerActivations]:
        """Return room for the activations of some rows in every layer."""
        blocks = self._recorder.blocks
        if self._tap is None:
            self._tap = ActivationTap(self._model, blocks)
        if not self._activations:
            dtype = self._recorder.activation_dtype
            self._activations = empty_step(blocks, self._buffers.rows, dtype=dtype, device=self._device)
        return [layer.rows(slice(rows)) for layer in self._activations]

    def _check(self, taken: StepsOfRows, cache: SharedPrefixCache, tokens: torch.Tensor, steps: int) -> bool:
        """Return whether captured steps give what the model's own steps give, and faster.

        Raises:
            GenerationError: They do not, and captured steps are required.
        """
        assert self._capturing is not None
        synchronize = self._capturing.synchronize
        own: list[LayerActivations] = []

        def captured_step() -> torch.Tensor:
            logits = taken.step(tokens)
            cache.advance(1)
            return logits

        def own_step() -> torch.Tensor:
            positions = cache.positions(1, self._device)
            logits = self._forward(tokens[:, None], positions, None, cache)
            cache.advance(1)
            return logits

        captured = CheckedSteps.take(steps, captured_step, lambda: _dense(taken.activations), synchronize)
        taken.rewind(steps)
        with ExitStack() as entered:
            if taken.activations:
                assert self._tap is not None
                dtype = self._recorder.activation_dtype
                own = empty_step(self._recorder.blocks, cache.rows, dtype=dtype, device=self._device)
                entered.enter_context(self._tap).open_on(own)
            entered.enter_context(shared_prefix_attention(self._model, cache))
            # the first step of a shape may choose kernels
            own_step()
            taken.rewind(1)
            expected = CheckedSteps.take(steps, own_step, lambda: _dense(own), synchronize)
            taken.rewind(steps)
        dtype = self._model.dtype
        exact = agree(captured.logits, expected.logits, dtype) and agree(
            captured.activations, expected.activations, dtype
        )
        if not exact:
            raise RuntimeError("it does not compute what the model computes")
        gain = expected.seconds / captured.seconds
        useful = self._required or gain >= LEAST_GAIN
        _logger.info(
            "a captured step of %d rows is %.1f times as fast as the model's own%s",
            cache.rows,
            gain,
            "" if useful else ", which is used",
        )
        return useful


class StepsOfRows:
    """Takes the captured steps of the rows of a batch, which stay the same meanwhile.

    Args:
        cache: The cache of the batch, whose suffixes are views of the buffers.
        buffers: The buffers.
        graph: The captured step.

    Attributes:
        activations: The activations of the last step in every layer; empty unless it records.
    """

    def __init__(self, cache: SharedPrefixCache, buffers: StaticBuffers, graph: _Graph) -> None:
        rows = cache.rows
        self._cache = cache
        self._replay = graph.replay
        self._tokens, self._positions = buffers.tokens[:rows], buffers.positions[:rows]
        self._logits = graph.logits[:rows]
        self.activations = [layer.rows(slice(rows)) for layer in graph.activations]

    def step(self, tokens: torch.Tensor, recorder: StepRecorder | None = None) -> torch.Tensor:
        """Read a token of every row.

        Args:
            tokens: int64 [rows].
            recorder: Gets the activations; None discards them.

        Returns:
            float32 [rows, vocabulary], the logits of the next token, which the next step overwrites.
        """
        self._tokens.copy_(tokens)
        self._replay()
        self._positions.add_(1)
        self._cache.count_stored(1)
        if recorder is not None:
            recorder.copy_step(self.activations)
        return self._logits

    def rewind(self, steps: int) -> None:
        """Forget the last steps, of this object or of the model itself."""
        self._cache.count_stored(-steps)
        self._cache.advance(-steps)
        self._positions.copy_(self._cache.positions(1, self._positions.device)[:, 0])


def _dense(layers: Sequence[LayerActivations]) -> torch.Tensor:
    """Return the activations of the layers without experts, [rows, width of all]."""
    found = [layer.values[0] for layer in layers if layer.experts is None]
    return torch.cat(found, dim=-1) if found else torch.zeros(1, 0)
