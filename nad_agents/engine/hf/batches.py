"""Choose between the batch whose rows share their request's prompt and the one whose rows have copies of it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

from transformers import Cache, PreTrainedModel

from nad_agents.engine.hf.kv_cache import BatchCache
from nad_agents.engine.hf.prefix.batch import SharedPrefixBatch
from nad_agents.engine.hf.prefix.cache import SharedPrefixCache, unshareable_layers
from nad_agents.engine.hf.prefix.prefix_cache import PrefixCache

__all__ = ["Batches"]


class Batches:
    """The two batches of an engine, of which at most one has rows.

    Args:
        model: The model.
        prefix_bytes: Memory for the keys and values of earlier prompts, which both batches use.
        shares_prompts: Whether the model can attend to shared prompts, and is to do so.

    Attributes:
        prefixes: Earlier prompts.
    """

    def __init__(self, model: PreTrainedModel, prefix_bytes: int, *, shares_prompts: bool) -> None:
        self.prefixes = PrefixCache(prefix_bytes)
        self._model = model
        self._shares_prompts = shares_prompts
        self.clear()

    def clear(self) -> None:
        """Remove the rows of all requests; the cached keys and values of earlier prompts stay."""
        self._plain = BatchCache(self._model.device, self.prefixes)
        self._shared = SharedPrefixBatch(self._model, self.prefixes)

    @property
    def current(self) -> BatchCache | SharedPrefixBatch:
        """The batch that has rows; any of the two if none has."""
        return self._plain if self._plain.rows else self._shared

    @property
    def shared_cache(self) -> SharedPrefixCache | None:
        """The cache of the rows that share prompts; None if there are no such rows."""
        return self._shared.cache

    def for_request(self, cache: Cache) -> BatchCache | SharedPrefixBatch:
        """Return the batch for a new request.

        Args:
            cache: The empty cache that transformers made for the request, whose layers decide.
        """
        return self._shared if self._shares_prompts and not unshareable_layers(cache) else self._plain

    def attention(self, cache: Cache) -> AbstractContextManager[None]:
        """Return a context in which the model attends to a cache that one of the batches opened."""
        batch = self._shared if isinstance(cache, SharedPrefixCache) else self._plain
        return batch.attention(cache)

    def join(self, cache: Cache, ids: Sequence[int], rows: int) -> None:
        """Add rows that continue a prompt to the batch that opened the prompt's cache.

        Args:
            cache: The cache that the prompt was read into.
            ids: The prompt's tokens.
            rows: Number of rows.
        """
        if isinstance(cache, SharedPrefixCache):
            self._shared.join(cache, ids, rows)
        else:
            self._plain.join(cache, ids, rows)
