"""Cache the prefixes of earlier prompts, so that a prompt that begins like one of them is read only from there on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from nad_agents.engine.hf.prefix.blocks import Prefix
from nad_agents.fork import ForkSafeLock

__all__ = ["PrefixCache"]

_MIN_SHARED_TOKENS = 32
"""Smallest number of tokens that two prompts must share. Reusing the few tokens with which every chat template begins
would save no time, and can change the last bits of the logits."""


@dataclass(frozen=True, eq=False)
class _CachedPrompt:
    ids: torch.Tensor  # int64 [T]
    prefix: Prefix
    windows: Sequence[int | None]

    def shared_tokens(self, ids: torch.Tensor) -> int:
        """Return the length of the longest common prefix with other token ids."""
        length = min(len(ids), len(self.ids))
        differ = (self.ids[:length] != ids[:length]).nonzero()
        return int(differ[0]) if len(differ) else length

    def up_to(self, length: int) -> Prefix | None:
        return self.prefix.up_to(length, self.windows)


class PrefixCache:
    """Cache of prompts that evicts the least recently used ones first; safe to use from several threads.

    Prompts with a common beginning share blocks, whose memory counts once.

    Args:
        max_bytes: Memory limit for keys, values and states; 0 disables the cache.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._prompts: list[_CachedPrompt] = []
        self._lock = ForkSafeLock()

    @property
    def bytes_held(self) -> int:
        """Bytes of the cached prompts."""
        with self._lock:
            return _bytes(self._prompts)

    def find(self, ids: Sequence[int], *, whole: bool = False) -> Prefix | None:
        """Return the longest cached prefix of a prompt; None if no prefix is long enough.

        Args:
            ids: The prompt's tokens.
            whole: Whether only the whole prompt is useful, because the model cannot continue reading from a prefix.
        """
        wanted = torch.tensor(ids, dtype=torch.long)
        with self._lock:
            # of equally long prefixes, the most recently used one is taken
            known = [(prompt.shared_tokens(wanted), prompt) for prompt in self._prompts[::-1]]
            least = max(_MIN_SHARED_TOKENS, len(wanted) if whole else 0)
            for common, prompt in sorted(known, key=lambda pair: -pair[0]):
                if common < least:
                    return None
                prefix = prompt.up_to(common)
                if prefix is not None:
                    self._prompts.remove(prompt)
                    self._prompts.append(prompt)
                    return prefix
        return None

    def keep(self, ids: Sequence[int], prefix: Prefix, windows: Sequence[int | None]) -> None:
        """Add a prompt that was read, unless it alone exceeds the memory limit.

        Args:
            ids: The prompt's tokens.
            prefix: The keys, values and states of exactly these tokens.
            windows: For each layer, the number of positions that a token sees; None if all.
        """
        if len(ids) < _MIN_SHARED_TOKENS:
            return
        prompt = _CachedPrompt(torch.tensor(ids, dtype=torch.long), prefix, tuple(windows))
        if _bytes([prompt]) > self.max_bytes:
            return
        with self._lock:
            self._prompts = [known for known in self._prompts if not _covers(prompt, known)]
            self._prompts.append(prompt)
            while _bytes(self._prompts) > self.max_bytes:
                self._prompts.pop(0)

    def clear(self) -> None:
        """Remove every prompt."""
        with self._lock:
            self._prompts.clear()


def _bytes(prompts: Sequence[_CachedPrompt]) -> int:
    return sum(dict(storage for prompt in prompts for storage in prompt.prefix.storages()).values())


def _covers(prompt: _CachedPrompt, known: _CachedPrompt) -> bool:
    """Return whether `prompt` contains everything that is cached for `known`."""
    length = len(known.ids)
    return known.shared_tokens(prompt.ids) == length and prompt.up_to(length) is not None
