"""Decoding steps as CUDA graphs: which graph a batch of rows takes, and whether it takes one at all.

There is a graph for each rounded number of rows and positions, and one for recording steps. It is captured when it is
first needed. The first one of a number of rows has to prove itself against the model's own step; if it cannot, or if
anything fails, the engine goes on without graphs. Where only the memory was too small, it goes on without those of as
many rows.
"""

from __future__ import annotations

import logging
from contextlib import suppress

import torch
from transformers import PreTrainedModel

from nad_agents.engine.hf.available_memory import available_device_memory
from nad_agents.engine.hf.batch_recorder import BatchRecorder
from nad_agents.engine.hf.captured.self_check import CHECKED_STEPS, LEAST_GAIN
from nad_agents.engine.hf.captured.static_cache import StaticBuffers
from nad_agents.engine.hf.captured.step_capture import Forward, StepCapture
from nad_agents.engine.hf.captured.steps_of_rows import StepGraph, StepsOfRows
from nad_agents.engine.hf.prefix.cache import SharedPrefixCache
from nad_agents.exceptions import GenerationError

__all__ = ["CapturedSteps", "length_bucket", "row_bucket"]

_logger = logging.getLogger(__name__)

_MOST_ROWS = 256
"""Rows beyond which the device is busier than the host, so that a graph would gain little."""

_POSITIONS = 256
"""Positions by which the length of what a graph attends to grows."""

_MOST_GRAPHS = 32
"""Graphs that are kept; the least recently used one makes room for another."""

_SHARE = 0.5
"""Greatest share of the available memory that the keys and values of all rows may take."""


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

    Attributes:
        buffers: The tensors that captured steps read and write.
    """

    def __init__(
        self, model: PreTrainedModel, forward: Forward, recorder: BatchRecorder, *, required: bool = False
    ) -> None:
        self.buffers = StaticBuffers(model.device)
        self._capture = StepCapture(model, forward, recorder, self.buffers)
        self._device = model.device
        self._required = required
        self._graphs: dict[tuple[int, int, bool], StepGraph] = {}
        self._useful: dict[tuple[int, bool], bool] = {}
        self._most_rows = _MOST_ROWS
        self._given_up = False
        self._weights = list(model.parameters())
        self._addresses: list[int] = []

    @property
    def graphs(self) -> int:
        """Number of graphs that are kept."""
        return len(self._graphs)

    def free(self) -> None:
        """Free the buffers and graphs; rows that are in the buffers keep their memory as long as they live."""
        self._drop_graphs()
        self.buffers.free()

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
        if self._given_up or not ready or cache.rows > self._most_rows:
            return None
        self._follow_weights()
        kind = (row_bucket(cache.rows), records)
        checked = min(CHECKED_STEPS, left)
        # a single step does not show whether the next one finds its keys
        if not self._useful.get(kind, checked > 1):
            return None
        try:
            position = max(group.position for group in cache.groups)
            length = position + max(steps, checked)
            if not self._make_room(cache, length, position + left):
                return None
            taken = self._steps_of_rows(cache, length_bucket(length), records=records)
            if kind not in self._useful:
                self._useful[kind] = self._proves_useful(taken, tokens, checked)
        except Exception as error:
            self.free()
            msg = f"the decoding step could not be captured: {type(error).__name__}: {error}"
            if self._required:
                raise GenerationError(f"{msg}; leave compile=True out") from error
            if isinstance(error, torch.OutOfMemoryError):
                # fewer rows need less
                self._most_rows = kind[0] // 2
            else:
                self._given_up = True
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
        buffers = self.buffers
        if cache.rows <= buffers.rows and length <= buffers.length:
            buffers.adopt(cache)
            return True
        # other buffers need other graphs, so a long text gets twice the length each time
        rows = max(row_bucket(cache.rows), buffers.rows)
        doubled = _POSITIONS * row_bucket(length_bucket(length) // _POSITIONS)
        positions = max(length_bucket(length), min(doubled, length_bucket(final)), buffers.length)
        self._drop_graphs()
        available = available_device_memory(self._device)
        needed = buffers.bytes_needed(cache, rows, positions)
        if available is not None and needed > _SHARE * (available + buffers.bytes_held):
            buffers.free()
            return False
        buffers.allocate(cache, rows, positions)
        return True

    def _follow_weights(self) -> None:
        """Forget the graphs if weights are elsewhere than before, as after `model.to`, since graphs read addresses."""
        addresses = [_address(weight) for weight in self._weights]
        if addresses != self._addresses:
            self._drop_graphs()
            self._useful.clear()
            self._addresses = addresses

    def _drop_graphs(self) -> None:
        self._graphs.clear()
        self._capture.free()

    def _steps_of_rows(self, cache: SharedPrefixCache, length: int, *, records: bool) -> StepsOfRows:
        rows = row_bucket(cache.rows)
        # a capture runs the model, which must not overwrite what the rows have stored
        self.buffers.set_positions(cache.positions(1, self._device)[:, 0])
        key = (rows, length, records)
        graph = self._graphs.pop(key, None) or self._capture.capture(cache, rows, length, records=records)
        self._graphs[key] = graph
        if len(self._graphs) > _MOST_GRAPHS:
            self._graphs.pop(next(iter(self._graphs)))
        return StepsOfRows(cache, self.buffers, graph)

    def _proves_useful(self, taken: StepsOfRows, tokens: torch.Tensor, steps: int) -> bool:
        """Return whether captured steps are fast enough to be taken.

        Raises:
            RuntimeError: They do not compute what the model's own steps compute.
        """
        gain = self._capture.gain(taken, tokens, steps)
        if gain is None:
            raise RuntimeError("it does not compute what the model computes")
        useful = self._required or gain >= LEAST_GAIN
        decided = "" if useful else ", which is used"
        _logger.info(
            "a captured step of %d rows is %.1f times as fast as the model's own%s", len(tokens), gain, decided
        )
        return useful


def _address(weight: torch.Tensor) -> int:
    """Return the address of a weight; 0 if the weight's class is made of other tensors."""
    with suppress(RuntimeError, NotImplementedError):
        return weight.data_ptr()
    return 0
