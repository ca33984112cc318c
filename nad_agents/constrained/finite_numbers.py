"""Keep the numbers of JSON within the range of float64, in which a grammar leaves them unbounded.

A grammar allows any number of digits, so 1e9999 is valid JSON, and Python and JavaScript read it as infinity. As
llguidance writes the grammar of numbers itself, they are bounded where tokens are forbidden.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch

from nad_agents.constrained.vocabulary_texts import VocabularyTexts

__all__ = ["FiniteNumbers"]

_LARGEST_EXPONENT = 308
"""Every number below 10 to this power is finite in float64."""

_MANY_DIGITS = 200
"""Digits of a whole number from which on its length is looked at; a token has far fewer than those that are left."""

_NUMBER = re.compile(r"-?([0-9]+)(?:[.][0-9]*)?(?:[eE]([+-]?)([0-9]*))?")

_NUMBER_END = re.compile(r"[-+.eE0-9]+\Z")


class FiniteNumbers:
    """Forbids tokens with which a JSON number would be read as infinity, such as the last digit of 1e999.

    Args:
        vocabulary: The texts of the tokenizer's vocabulary.
    """

    def __init__(self, vocabulary: VocabularyTexts) -> None:
        self._texts = vocabulary.texts
        # outside a string only numbers may go on where no letter is allowed; quotes may begin or end a string
        exact = vocabulary.exact
        self._text_tokens = [exact[character] for character in ("a", '"') if character in exact]
        self._long_exponents = vocabulary.long_exponents

    def restrict(self, tokens: Sequence[int], allowed: torch.Tensor) -> None:
        """Forbid, in place, every token after which the number that a candidate is writing would be infinite.

        Args:
            tokens: The candidate's tokens so far.
            allowed: Bool [vocabulary], the tokens that the grammar allows next.
        """
        number = self._unfinished_number(tokens)
        if _may_grow_too_large(number):
            candidates = [token for token in allowed.nonzero().flatten().tolist() if token < len(self._texts)]
        else:
            candidates = [token for token in self._long_exponents if allowed[token]]
        if not candidates or any(allowed[token] for token in self._text_tokens):
            return
        infinite = [token for token in candidates if _is_too_large(number + self._texts[token])]
        finite = allowed.clone()
        finite[infinite] = False
        # a schema may ask for numbers that are as large
        if finite.any():
            allowed &= finite

    def _unfinished_number(self, tokens: Sequence[int]) -> str:
        """Return the end of the text that may be a number; empty if it ends otherwise."""
        parts: list[str] = []
        for token in reversed(tokens):
            text = self._texts[token] if token < len(self._texts) else ""
            found = _NUMBER_END.search(text)
            if found is None:
                break
            parts.append(found[0])
            if found.start():
                break
        return "".join(reversed(parts))


def _may_grow_too_large(number: str) -> bool:
    """Return whether one more token may make a number infinite."""
    found = _NUMBER.fullmatch(number)
    return found is not None and (found[2] in ("", "+") or len(found[1]) > _MANY_DIGITS)


def _is_too_large(text: str) -> bool:
    """Return whether the number that a text begins with is too large, by its number of digits and its exponent."""
    found = _NUMBER.match(text)
    if found is None:
        return False
    exponent = int(found[3] or 0) if found[2] in ("", "+") else 0
    return len(found[1]) + exponent > _LARGEST_EXPONENT
