"""Bring an answer to its end before the token limit.

A grammar alone lets a candidate run into its limit in the middle of a string. So this module knows at any time a short
way to the end, found by trying it out on a copy of the candidate's matcher, and says when it has to be taken: as long
as the way still fits after whatever the next token may open, the candidate is free.
"""

from __future__ import annotations

import string
import threading
import weakref
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

if TYPE_CHECKING:
    from llguidance import LLMatcher
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

__all__ = ["JSON_STEPS", "Closer", "Ending", "in_string"]

JSON_STEPS = ("}", "]", '"', ",", ":", " ", "0", "null", "true", "[", "{")
"""What to write in JSON outside a string, the shortest way to the end first."""

_LITERALS = {*string.digits, "true", "false", "null"}
_LONGEST = 512
"""Tokens after which a way to the end is given up."""

_MARGIN = 8
"""Tokens that one token may commit a candidate to in any case: an escape in a string, several brackets at once."""


@dataclass(frozen=True)
class _Words:
    """What the tokens of a vocabulary say.

    Attributes:
        texts: by token id.
        exact: token id by text, for single characters and the texts in `JSON_STEPS`.
        length: float32 [tokens], how much of a string a token fills; the highest first where length is needed.
        plain: bool [tokens], neither ends nor escapes anything in a string.
        literals: bool [tokens], a digit or a JSON literal.
    """

    texts: list[str]
    exact: dict[str, int]
    length: NDArray[np.float32]
    plain: torch.Tensor
    literals: torch.Tensor


_Fill = Callable[["LLMatcher", NDArray[np.bool_]], int | None]
"""Chooses what to write, of the tokens that are allowed, where none of the steps is."""

_WORDS: weakref.WeakKeyDictionary[PreTrainedTokenizerBase, _Words] = weakref.WeakKeyDictionary()
_WORDS_LOCK = threading.Lock()


@dataclass(eq=False)
class Ending:
    """What is known of one candidate's way to its end.

    Attributes:
        path: tokens that complete the answer; None before the first look, or where no way was found.
        last_look: number of the candidate's tokens at the last look.
        next_look: number of the candidate's tokens at which the next look is due.
    """

    path: list[int] | None = None
    last_look: int = 0
    next_look: int = 0


class Closer:
    """Leaves a candidate only what brings it to its end, once it has to.

    Args:
        tokenizer: of the model.
        vocabulary: number of logits.
        end_tokens: tokens that end a candidate.
        jump: number of tokens by which one token may lengthen the way to the end: it may open an item of a list.
        growth: by how much one token may lengthen it in a string, which is nothing where no string has a pattern.
        steps: what to write, where it is allowed, for the shortest way to the end.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        vocabulary: int,
        end_tokens: Collection[int],
        jump: int,
        growth: int = 0,
        steps: Sequence[str] = JSON_STEPS,
    ) -> None:
        self._steps = steps
        self._words = _words(tokenizer)
        self._end_tokens = list(end_tokens)
        self._jump = jump + _MARGIN
        self._growth = growth
        self._mask = np.zeros((vocabulary + 31) // 32, np.int32)

    def narrow(
        self, ending: Ending, matcher: LLMatcher, tokens: Sequence[int], left: int, allowed: torch.Tensor
    ) -> None:
        """Forbid, in place, what would not leave enough tokens for the rest.

        Args:
            ending: of the candidate; brought up to date.
            matcher: of the candidate; stays as it is.
            tokens: the candidate so far.
            left: tokens until the limit, the next included.
            allowed: bool [vocabulary], what the grammar allows next.
        """
        if len(tokens) < ending.next_look:
            return
        inside, escaped = _string_state(self._text(tokens))
        path = ending.path = self._path_from(ending, matcher, tokens, left - 1, inside=inside)
        ending.last_look = len(tokens)
        needed = left + 1 if path is None else len(path) + 1
        if path is None or needed > left:
            # a pattern may have shorter ways than the one that was found
            ending.next_look = len(tokens) + _MARGIN
            return
        if needed + self._jump < left:
            ending.next_look = len(tokens) + (left - needed) // (self._jump + 1)
            return
        chosen = torch.zeros_like(allowed)
        chosen[path[:1] or self._end_tokens] = True
        if left > needed + 2 + self._growth and inside and not escaped:
            # the string may go on: its end stays as near as it is, unless a pattern moves it
            chosen[: len(self._words.plain)] |= self._words.plain[: len(chosen)]
        elif left > needed + 2 and path and self._words.literals[path[0]]:
            chosen[: len(self._words.literals)] |= self._words.literals[: len(chosen)]
        chosen &= allowed
        if chosen.any():
            allowed &= chosen

    def path(self, matcher: LLMatcher, tokens: Sequence[int] = (), limit: int = _LONGEST) -> list[int] | None:
        """A short way to a complete answer.

        Args:
            matcher: of the candidate; stays as it is.
            tokens: the candidate so far.
            limit: length of the way at which looking for it is given up.

        Returns:
            The tokens to write, without the end token; None where none was found.
        """
        text = self._text(tokens)
        limit = min(limit, _LONGEST)
        found = self._walk(matcher.deep_copy(), text, self._longest, limit)
        if found is not None and self._steps and not self._growth:
            return found
        shorter = self._walk(matcher.deep_copy(), text, self._rarest(), limit if found is None else len(found) - 1)
        return found if shorter is None else shorter

    def _path_from(
        self, ending: Ending, matcher: LLMatcher, tokens: Sequence[int], limit: int, *, inside: bool
    ) -> list[int] | None:
        known = ending.path or []
        if known and len(tokens) == ending.last_look + 1 and tokens[-1] == known[0]:
            return known[1:]
        # inside a string the way to the end is the same after one more word, and so it is often in a pattern
        if known and (inside or not self._steps) and self._completes(matcher, known):
            return known
        return self.path(matcher, tokens, limit)

    def _completes(self, matcher: LLMatcher, path: list[int]) -> bool:
        return bool(matcher.validate_tokens([*path, self._end_tokens[0]]) == len(path) + 1)

    def _walk(self, matcher: LLMatcher, text: str, fill: _Fill, limit: int) -> list[int] | None:
        path: list[int] = []
        inside, escaped = _string_state(text)
        while len(path) < limit and not matcher.is_accepting():
            new = matcher.compute_ff_tokens() or self._next(matcher, inside=inside, fill=fill)
            if not new or not matcher.consume_tokens(new):
                return None
            path += new
            inside, escaped = _string_state(self._text(new), inside=inside, escaped=escaped)
        return path if matcher.is_accepting() else None

    def _next(self, matcher: LLMatcher, *, inside: bool, fill: _Fill) -> list[int]:
        matcher.unsafe_compute_mask_ptr(self._mask.ctypes.data, self._mask.nbytes)
        for step in ('"',) if inside and self._steps else self._steps:
            token = self._words.exact.get(step)
            if token is not None and self._mask[token >> 5] >> (token & 31) & 1:
                return [token]
        bits = np.unpackbits(self._mask.view(np.uint8), bitorder="little").view(np.bool_)
        token = fill(matcher, bits[: len(self._words.length)])
        return [] if token is None else [token]

    def _longest(self, matcher: LLMatcher, allowed: NDArray[np.bool_]) -> int | None:  # noqa: ARG002 - as other fills
        """The token that fills most of a string whose length is prescribed."""
        if not allowed.any():
            return None
        return int(np.where(allowed, self._words.length, -1).argmax())

    def _rarest(self) -> _Fill:
        """The character after which the end is allowed, else single ones in turn: the one that a pattern waits for."""
        written: dict[int, int] = {}

        def fill(matcher: LLMatcher, allowed: NDArray[np.bool_]) -> int | None:
            characters = [token for text, token in self._words.exact.items() if len(text) == 1 and allowed[token]]
            if not characters:
                return self._longest(matcher, allowed)
            ends = (token for token in characters if self._may_end(matcher, token))
            token = next(ends, min(characters, key=lambda token: written.get(token, 0)))
            written[token] = written.get(token, 0) + 1
            return token

        return fill

    def _may_end(self, matcher: LLMatcher, token: int) -> bool:
        """Whether the answer, or the string that it is in, may end after one more token."""
        exact = self._words.exact
        if self._steps and token == exact.get("\\"):
            # the quote after it would be escaped
            return False
        end = exact.get('"') if self._steps else self._end_tokens[0]
        return end is not None and bool(matcher.validate_tokens([token, end]) == 2)

    def _text(self, tokens: Sequence[int]) -> str:
        texts = self._words.texts
        return "".join(texts[token] for token in tokens if token < len(texts))


def _words(tokenizer: PreTrainedTokenizerBase) -> _Words:
    with _WORDS_LOCK:
        if tokenizer not in _WORDS:
            texts = [str(text) for text in tokenizer.batch_decode([[i] for i in range(len(tokenizer))])]
            wanted = {*JSON_STEPS, *string.printable.strip()}
            exact: dict[str, int] = {}
            for i, text in enumerate(texts):
                if text in wanted:
                    exact.setdefault(text, i)
            special = set(tokenizer.all_special_ids)
            # a token that ends in the middle of a character binds the next ones, as an escape does
            plain = [bool(t) and not {'"', "\\", "\ufffd"} & set(t) and i not in special for i, t in enumerate(texts)]
            readable = [len(t) if t.isascii() and t.isalnum() else 0.5 * p for t, p in zip(texts, plain, strict=True)]
            _WORDS[tokenizer] = _Words(
                texts=texts,
                # one of each kind, then by how seldom text has them, so that what a pattern waits for comes early
                exact=dict(sorted(exact.items(), key=lambda x: (x[0] not in "0aA", x[0].isalpha(), x[0].isdigit()))),
                length=np.array(readable, np.float32),
                plain=torch.tensor(plain),
                literals=torch.tensor([text in _LITERALS for text in texts]),
            )
        return _WORDS[tokenizer]


def in_string(text: str) -> bool:
    """Whether JSON that breaks off at the end of the text breaks off inside a string."""
    return _string_state(text)[0]


def _string_state(text: str, *, inside: bool = False, escaped: bool = False) -> tuple[bool, bool]:
    """Whether JSON that breaks off here breaks off inside a string, and right after a backslash in it."""
    for char in text:
        if inside and escaped:
            escaped = False
        elif inside and char == "\\":
            escaped = True
        elif char == '"':
            inside = not inside
    return inside, escaped
