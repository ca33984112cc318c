"""`ComparisonConfig`: which similarity, how many neurons per token, which tokens and which layers are compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

import numpy as np

from nad_agents.exceptions import ConfigurationError
from nad_agents.types import Similarity

if TYPE_CHECKING:
    from nad_agents.types import NADConfig

__all__ = ["ComparisonConfig"]


@dataclass(frozen=True)
class ComparisonConfig:
    """Options for comparing two candidates.

    Attributes:
        similarity: How activated neurons are compared; the paper uses ``jaccard``.
        top_k_neurons: Number of a token's recorded neurons that are used, the best-scored first; None uses all.
        chunk_size: Tokens per chunk (the paper's B).
        compare_chunks: Number of chunks that are compared, from the first generated token on; None compares whole
            answers.
        skip_tokens: Number of tokens left out at the start.
        common_prefix: Whether to compare only as many tokens as the shortest candidate has (of those that have any
            left after `skip_tokens`), which removes the effect of length.
        layers: (first, end) in the model's own numbering; None compares every recorded layer.

    Raises:
        ConfigurationError: A value is out of range, or skipping leaves nothing of the compared chunks.
    """

    similarity: Similarity = "jaccard"
    top_k_neurons: int | None = None
    chunk_size: int = 32
    compare_chunks: int | None = None
    skip_tokens: int = 0
    common_prefix: bool = False
    layers: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        """Check every value."""
        if self.similarity not in get_args(Similarity):
            names = ", ".join(get_args(Similarity))
            msg = f"similarity={self.similarity!r} is unknown; choose one of {names}"
            raise ConfigurationError(msg)
        for name, minimum in (("top_k_neurons", 1), ("chunk_size", 1), ("compare_chunks", 1), ("skip_tokens", 0)):
            value = getattr(self, name)
            if value is None and name in {"top_k_neurons", "compare_chunks"}:
                continue
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < minimum:
                msg = f"{name}={value!r} must be a whole number of at least {minimum}"
                raise ConfigurationError(msg)
        if self.layers is not None and not 0 <= self.layers[0] < self.layers[1]:
            msg = f"layers={self.layers} must be (first, end) with 0 <= first < end, such as (8, 16)"
            raise ConfigurationError(msg)
        limit = self.token_limit
        if limit is not None and self.skip_tokens >= limit:
            msg = (
                f"skip_tokens={self.skip_tokens} leaves nothing of the {limit} compared tokens "
                f"(compare_chunks={self.compare_chunks} of {self.chunk_size}); raise compare_chunks "
                "or lower skip_tokens"
            )
            raise ConfigurationError(msg)

    @classmethod
    def from_config(cls, config: NADConfig) -> ComparisonConfig:
        """Make the comparison that a `NADConfig` asks for.

        Its ``layers`` select the layers to record, not those to compare: everything that was recorded is compared.
        """
        return cls(
            similarity=config.similarity,
            top_k_neurons=config.top_k_neurons,
            chunk_size=config.chunk_size,
            compare_chunks=config.compare_chunks,
            skip_tokens=config.skip_tokens,
            common_prefix=config.common_prefix,
        )

    @property
    def token_limit(self) -> int | None:
        """Number of tokens in the first `compare_chunks` chunks; None if there is no limit."""
        return None if self.compare_chunks is None else self.compare_chunks * self.chunk_size

    @property
    def counts_key(self) -> tuple[object, ...]:
        """Key under which a group caches how often neurons were activated: the options that determine it."""
        # chunk_size alone does not change a set, so it is no part of the key
        return ("counts", self.top_k_neurons, self.token_limit, self.skip_tokens, self.common_prefix, self.layers)

    @property
    def similarity_key(self) -> tuple[object, ...]:
        """Key under which a group caches its similarities: the options that determine them."""
        return ("similarity", self.similarity, *self.counts_key)
