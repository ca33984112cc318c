"""Take decoding steps by replaying a captured one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch

from nad_agents.engine.hf.batch_recorder import StepRecorder
from nad_agents.engine.hf.captured.static_cache import StaticBuffers
from nad_agents.engine.hf.prefix.cache import SharedPrefixCache
from nad_agents.neurons.tap import LayerActivations

__all__ = ["StepGraph", "StepsOfRows"]


class StepGraph(NamedTuple):
    """A captured step, which reads the tokens and positions of the buffers and stores keys and values there.

    Attributes:
        replay: Takes the step.
        logits: float32 [rows, vocabulary], where it writes.
        activations: Where it writes the activations of every layer; empty unless it records.
    """

    replay: Callable[[], None]
    logits: torch.Tensor
    activations: Sequence[LayerActivations]


class StepsOfRows:
    """Takes the captured steps of the rows of a batch, which stay the same meanwhile.

    Args:
        cache: The cache of the batch, whose suffixes are views of the buffers.
        buffers: The buffers.
        graph: The captured step.

    Attributes:
        cache: See above.
        activations: The activations of the last step in every layer; empty unless it records.
    """

    def __init__(self, cache: SharedPrefixCache, buffers: StaticBuffers, graph: StepGraph) -> None:
        rows = cache.rows
        self.cache = cache
        self._replay = graph.replay
        self._tokens, self._positions = buffers.tokens[:rows], buffers.positions[:rows]
        self._logits = graph.logits[:rows]
        self.activations = [layer.rows(slice(rows)) for layer in graph.activations]

    def step(self, tokens: torch.Tensor, recorder: StepRecorder | None = None) -> torch.Tensor:
        """Read a token of every row; the caller counts it in the cache's groups.

        Args:
            tokens: int64 [rows].
            recorder: Gets the activations; None discards them.

        Returns:
            float32 [rows, vocabulary], the logits of the next token, which the next step overwrites.
        """
        self._tokens.copy_(tokens)
        self._replay()
        self._positions.add_(1)
        self.cache.count_stored(1)
        if recorder is not None:
            recorder.copy_step(self.activations)
        return self._logits

    @contextmanager
    def trial(self) -> Iterator[None]:
        """Forget the steps of the block, captured ones or the model's own, even where one of them fails."""
        with self.cache.provisional():
            yield
        self._positions.copy_(self.cache.positions(1, self._positions.device)[:, 0])
