"""The candidates of one request: a rollout for each, and the group of rollouts that selectors compare.

Rollouts hold numpy arrays and no torch tensors: the same objects are built while decoding and read from recorded runs.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from nad_agents.exceptions import ConfigurationError

__all__ = ["FinishReason", "NeuronLayout", "Rollout", "RolloutGroup"]

FinishReason = Literal["stop", "length", "pruned", "running"]
"""Why a rollout ended: at an end token or stop string, at the token limit, or by pruning; "running" if it has not."""

_T = TypeVar("_T")
_PER_TOKEN = ("neurons", "logprobs", "entropies", "self_certainties", "confidences")


@dataclass(frozen=True)
class NeuronLayout:
    """How neurons are numbered: neuron i of the layer at position l among the recorded layers is l * d_ff + i.

    Attributes:
        n_layers: Number of recorded layers.
        d_ff: Neurons per layer, those of all experts in a mixture of experts; the largest if layers differ.
        first_layer: Position of the first recorded layer among the model's layers that have a feed-forward block.
    """

    n_layers: int
    d_ff: int
    first_layer: int = 0

    @property
    def n_neurons(self) -> int:
        """Number of neurons, which is the length of a dense activation vector."""
        return self.n_layers * self.d_ff


@dataclass(frozen=True)
class Rollout:
    """One candidate as the engine produced it; T tokens, k activated neurons per token.

    Attributes:
        index: Position of the candidate in its request, 0 .. N-1.
        token_ids: int64 [T], the generated tokens, the end token included.
        text: The decoded answer, without special tokens and without the stop string.
        neurons: int32 [T, k], the activated neurons of each token in descending score, so that the first k' columns
            are the activated set for a smaller k'. Padded with -1; k = 0 if nothing was recorded.
        logprobs: float32 [T], log-probability (nats) of each token under the model's unmodified distribution.
        entropies: float32 [T], entropy (nats) of that distribution.
        self_certainties: float32 [T], KL divergence (nats) from the uniform distribution (arXiv 2502.18581).
        confidences: float32 [T], negative mean log-probability of the 20 likeliest tokens (arXiv 2508.15260).
        finish_reason: Why the candidate ended.
        pieces: The text of each token as a server sent it, for tokens that no tokenizer at hand decodes; else empty.

    Raises:
        ConfigurationError: An array does not have one row per token.
    """

    index: int
    token_ids: NDArray[np.int64]
    text: str
    neurons: NDArray[np.int32]
    logprobs: NDArray[np.float32]
    entropies: NDArray[np.float32]
    self_certainties: NDArray[np.float32]
    confidences: NDArray[np.float32]
    finish_reason: FinishReason = "length"
    pieces: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check that every array has one row per token."""
        n = len(self.token_ids)
        for name in _PER_TOKEN:
            if len(getattr(self, name)) != n:
                msg = f"rollout {self.index}: {name} has {len(getattr(self, name))} rows for {n} tokens"
                raise ConfigurationError(msg)

    def __len__(self) -> int:
        """Number of generated tokens."""
        return len(self.token_ids)

    def beginning(self, tokens: int) -> Rollout:
        """Return the candidate after its first `tokens` tokens, without a text; itself if it has no more."""
        if len(self) <= tokens:
            return self
        parts = {name: getattr(self, name)[:tokens] for name in ("token_ids", "pieces", *_PER_TOKEN)}
        return replace(self, text="", finish_reason="running", **parts)


@dataclass(frozen=True)
class RolloutGroup:
    """All candidates of one prompt, in index order, with the numbering of their neurons.

    Attributes:
        rollouts: The N candidates.
        layout: The numbering of neurons, which all candidates share.
        prompt: The user's text, for selectors that read it (behaviour, majority); may be empty.
    """

    rollouts: Sequence[Rollout]
    layout: NeuronLayout
    prompt: str = ""
    _cache: dict[Hashable, object] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        """Number of candidates."""
        return len(self.rollouts)

    def beginning(self, tokens: int) -> RolloutGroup:
        """Return the group with every candidate cut after `tokens` tokens, which is all that an early choice can know.

        Every call returns the same object, so that values computed on it are kept.
        """

        def build() -> RolloutGroup:
            parts = [rollout.beginning(tokens) for rollout in self.rollouts]
            return RolloutGroup(parts, self.layout, self.prompt)

        return self.cached(("beginning", tokens), build)

    def cached(self, key: Hashable, build: Callable[[], _T]) -> _T:
        """Return the value for a key, which is computed at the first call and kept on this group.

        Args:
            key: Names the result and everything that determines it besides the group.
            build: Computes the result; it must not be changed afterwards, because every caller gets the same object.
        """
        if key not in self._cache:
            self._cache[key] = build()
        return cast("_T", self._cache[key])
