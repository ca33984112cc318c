"""Bring JSON to its end within a few tokens.

A grammar alone lets a candidate run into its token limit in the middle of a string. Near the limit this module leaves,
of the tokens that the grammar allows, only those that close what is open.
"""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

__all__ = ["JSONCloser", "in_string"]

_STEPS = (("}", "]"), ('"',), (",", ":"), ("0", "1", "t", "n", "f", "[", "{"))
"""First characters of what to write outside a string, the shortest way to the end first."""

_TABLES: weakref.WeakKeyDictionary[PreTrainedTokenizerBase, dict[str, torch.Tensor]] = weakref.WeakKeyDictionary()
_TABLES_LOCK = threading.Lock()


class JSONCloser:
    """Narrows a candidate's next token to what ends its JSON soonest.

    Args:
        tokenizer: of the model.
        reserve: number of tokens before the limit at which closing begins.
        marker: what JSON follows, in answers that are prose until then; None when an answer is JSON from its start.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, reserve: int, marker: str | None = None) -> None:
        self.reserve = reserve
        self._tokenizer = tokenizer
        self._marker = marker
        self._starting = _closing_tokens(tokenizer)

    def narrow(self, tokens: list[int], allowed: torch.Tensor) -> None:
        """Forbid, in place, what does not lead to the end; leaves everything as it is where nothing would be left.

        Args:
            tokens: the candidate so far.
            allowed: bool [vocabulary], what the grammar allows next.
        """
        text = self._json_so_far(tokens)
        if text is None:
            return
        groups = (('"',),) if in_string(text) else _STEPS
        for group in groups:
            chosen = torch.zeros_like(allowed)
            for first in group:
                chosen[self._starting[first]] = True
            chosen &= allowed
            if chosen.any():
                allowed &= chosen
                return

    def _json_so_far(self, tokens: list[int]) -> str | None:
        text = str(self._tokenizer.decode(tokens, skip_special_tokens=False))
        if self._marker is None or text.lstrip().startswith("{"):
            return text
        found = text.rfind(self._marker)
        return None if found < 0 else text[found + len(self._marker) :]


def _closing_tokens(tokenizer: PreTrainedTokenizerBase) -> dict[str, torch.Tensor]:
    """For each first character of `_STEPS` the tokens that begin with it and are little more than punctuation."""
    with _TABLES_LOCK:
        if tokenizer not in _TABLES:
            texts = tokenizer.batch_decode([[i] for i in range(len(tokenizer))])
            closing = [(i, text.lstrip(" ")[:1]) for i, text in enumerate(texts) if _closes(text)]
            characters = {first for group in _STEPS for first in group}
            _TABLES[tokenizer] = {
                c: torch.tensor([i for i, first in closing if first == c], dtype=torch.long) for c in characters
            }
        return _TABLES[tokenizer]


def _closes(text: str) -> bool:
    """Whether a token is nothing but punctuation or the beginning of a short literal."""
    stripped = text.strip(" ")
    return len(stripped) <= 5 and (
        all(c in '"{}[],: ' for c in stripped) or stripped in {"0", "1", "t", "n", "f", "true", "null", "false"}
    )


def in_string(text: str) -> bool:
    """Whether JSON that breaks off at the end of the text breaks off inside a string."""
    inside = escaped = False
    for char in text:
        if inside and escaped:
            escaped = False
        elif inside and char == "\\":
            escaped = True
        elif char == '"':
            inside = not inside
    return inside
