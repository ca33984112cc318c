"""Complete an answer before the token limit cuts it off.

A grammar alone lets a candidate run into its token limit in the middle of a string. A `TokenBudget` therefore knows at
any time a short ending, a sequence of tokens that completes the answer, which it finds by trying tokens on a copy of
the candidate's matcher. As long as the ending still fits after whatever the next token may open, the candidate is
unrestricted; after that only tokens that keep the ending within the budget are allowed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from nad_agents.constrained.number_endings import NumberLimits, number_ending
from nad_agents.constrained.vocabulary_texts import JSON_ENDING_TEXTS, vocabulary_texts

if TYPE_CHECKING:
    from llguidance import LLMatcher
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

__all__ = ["EndingState", "TokenBudget", "json_string_state", "repeats_key"]

_AFTER_NUMBER = ("}", "]", ",")

_IN_NUMBER = re.compile(r"(?:[0-9][.]?|-)\Z")

_MAX_ENDING = 4096
"""Number of tokens after which the search for an ending gives up."""

_MAX_ALTERNATIVES = 64
"""Largest number of allowed tokens that counts as a choice between alternatives, such as keys, not as free text."""

_MARGIN = 8
"""Tokens that any single token may commit a candidate to: an escape in a string, or several brackets at once."""


_ChooseToken = Callable[["LLMatcher", NDArray[np.bool_]], int | None]
"""Chooses one of the allowed tokens where none of the ending texts is allowed."""


@dataclass(eq=False)
class EndingState:
    """The ending that is known for one candidate.

    Attributes:
        ending: Tokens that complete the answer, without the end token; None before the first search, or if the search
            failed.
        searched_at: Number of the candidate's tokens at the last search.
        next_search: Number of the candidate's tokens at which the next search is due.
    """

    ending: list[int] | None = None
    searched_at: int = 0
    next_search: int = 0


class TokenBudget:
    """Restricts candidates to tokens after which the answer can still be completed within the token limit.

    Args:
        tokenizer: The model's tokenizer.
        vocabulary: Number of logits.
        end_tokens: Tokens that end a candidate.
        opening_tokens: Number of tokens by which one token may lengthen the ending, by opening an item of a list.
        pattern_growth: Number of tokens by which one token within a string may lengthen the ending; 0 if no string has
            a pattern.
        ending_texts: Texts that lead to the end, the best one first; empty for answers that are not JSON.
        numbers: Constraints on the numbers of the schemas.
        distinct_keys: Whether an ending must not repeat the keys of an object, since their number counts.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        vocabulary: int,
        end_tokens: Collection[int],
        opening_tokens: int,
        pattern_growth: int = 0,
        ending_texts: Sequence[str] = JSON_ENDING_TEXTS,
        numbers: NumberLimits = NumberLimits(),  # noqa: B008 - immutable
        *,
        distinct_keys: bool = False,
    ) -> None:
        self._ending_texts = ending_texts
        self._vocabulary = vocabulary_texts(tokenizer)
        self._end_tokens = list(end_tokens)
        self._numbers = numbers
        self._distinct_keys = distinct_keys
        self._way_out = ""
        self._opening_tokens = opening_tokens + _MARGIN + numbers.longest
        self._pattern_growth = pattern_growth
        self._mask = np.zeros((vocabulary + 31) // 32, np.int32)

    def restrict(
        self, state: EndingState, matcher: LLMatcher, tokens: Sequence[int], remaining: int, allowed: torch.Tensor
    ) -> None:
        """Forbid, in place, every token that would not leave enough of the budget for an ending.

        Args:
            state: The candidate's ending, which is updated.
            matcher: The candidate's matcher, which is left unchanged.
            tokens: The candidate's tokens so far.
            remaining: Number of tokens until the limit, including the next one.
            allowed: Bool [vocabulary], the tokens that the grammar allows next.
        """
        if len(tokens) < state.next_search:
            return
        inside, escaped = json_string_state(self._text(tokens))
        ending = state.ending = self._updated_ending(state, matcher, tokens, remaining - 1, inside=inside)
        state.searched_at = len(tokens)
        needed = remaining + 1 if ending is None else len(ending) + 1
        if ending is None or needed > remaining:
            # a pattern may have shorter endings than the one that was found
            state.next_search = len(tokens) + _MARGIN
            return
        if needed + self._opening_tokens < remaining:
            state.next_search = len(tokens) + (remaining - needed) // (self._opening_tokens + 1)
            return
        within_budget = torch.zeros_like(allowed)
        within_budget[ending[:1] or self._end_tokens] = True
        plain, literals = self._vocabulary.plain, self._vocabulary.literals
        free_text = inside and not escaped and int(allowed.sum()) > _MAX_ALTERNATIVES
        if remaining > needed + 2 + self._pattern_growth and free_text:
            # a string may continue without moving its end further away, unless it has a pattern; the choice of a key or
            # a constant may move the end
            within_budget[: len(plain)] |= plain[: len(within_budget)]
        elif remaining > needed + 2 + self._numbers.longest and ending and literals[ending[0]]:
            within_budget[: len(literals)] |= literals[: len(within_budget)]
        within_budget &= allowed
        if within_budget.any():
            allowed &= within_budget

    def shortest_ending(
        self, matcher: LLMatcher, tokens: Sequence[int] = (), limit: int = _MAX_ENDING
    ) -> list[int] | None:
        """Find a short ending of an answer: the shortest for JSON without patterns, else the best of two searches.

        Args:
            matcher: The candidate's matcher, which is left unchanged.
            tokens: The candidate's tokens so far.
            limit: Length at which the search gives up.

        Returns:
            The tokens of the ending, without the end token; None if the search found none.
        """
        text = self._text(tokens)
        limit = min(limit, _MAX_ENDING)
        found = self._search(matcher.deep_copy(), text, self._choose_longest, limit)
        if found is not None and self._ending_texts and not self._pattern_growth:
            return found
        characters: set[str] = set()
        shorter_than = limit if found is None else len(found) - 1
        shorter = self._search(matcher.deep_copy(), text, self._make_character_choice(characters), shorter_than)
        found = found if shorter is None else shorter
        if found is None and self._ending_texts:
            # a recursive alternative was chosen, so one of the others may lead to the end
            for character in sorted(characters, key=lambda c: (c != self._way_out, c)):
                choice = self._make_character_choice(preferred=character)
                found = self._search(matcher.deep_copy(), text, choice, limit)
                if found is not None:
                    self._way_out = character
                    break
        return found

    def _updated_ending(
        self, state: EndingState, matcher: LLMatcher, tokens: Sequence[int], limit: int, *, inside: bool
    ) -> list[int] | None:
        known = state.ending or []
        # the grammar allowed each of these tokens alone, so several of them are new
        new = list(tokens[state.searched_at :])
        if known and new and known[: len(new)] == new:
            return known[len(new) :]
        # within a string the ending is the same after one more token, and under a pattern often is, too
        if known and (inside or not self._ending_texts) and self._completes(matcher, known):
            return known
        return self.shortest_ending(matcher, tokens, limit)

    def _completes(self, matcher: LLMatcher, ending: list[int]) -> bool:
        return bool(matcher.validate_tokens([*ending, self._end_tokens[0]]) == len(ending) + 1)

    def _search(self, matcher: LLMatcher, text: str, choose: _ChooseToken, limit: int) -> list[int] | None:
        """Advance the matcher token by token until it accepts; returns the tokens, None beyond the limit."""
        ending: list[int] = []
        inside, escaped = json_string_state(text)
        while len(ending) < limit and not matcher.is_accepting():
            new = matcher.compute_ff_tokens() or self._next_tokens(matcher, text, inside=inside, choose=choose)
            if not new or not matcher.consume_tokens(new):
                return None
            ending += new
            text += self._text(new)
            inside, escaped = json_string_state(self._text(new), inside=inside, escaped=escaped)
        return ending if matcher.is_accepting() else None

    def _next_tokens(self, matcher: LLMatcher, text: str, *, inside: bool, choose: _ChooseToken) -> list[int]:
        matcher.unsafe_compute_mask_ptr(self._mask.ctypes.data, self._mask.nbytes)
        bits = np.unpackbits(self._mask.view(np.uint8), bitorder="little").view(np.bool_)
        allowed = bits[: len(self._vocabulary.fill)]
        if inside and self._distinct_keys and repeats_key(text):
            distinguishing = self._distinguishing_token(allowed)
            return [] if distinguishing is None else [distinguishing]
        if not inside and self._ending_texts and _IN_NUMBER.search(text) and not self._may_go_on(allowed):
            return self._number_ending(matcher, text) or []
        for ending_text in ('"',) if inside and self._ending_texts else self._ending_texts:
            token = self._vocabulary.exact.get(ending_text)
            if ending_text == "0" and (number := self._number_ending(matcher, text)):
                return number
            if token is not None and ending_text != "0" and allowed[token]:
                return [token]
        chosen = choose(matcher, allowed)
        return [] if chosen is None else [chosen]

    def _may_go_on(self, allowed: NDArray[np.bool_]) -> bool:
        """Return whether the number that the text ends with may end here."""
        tokens = (self._vocabulary.exact.get(text) for text in _AFTER_NUMBER)
        return any(token is not None and allowed[token] for token in tokens)

    def _number_ending(self, matcher: LLMatcher, text: str) -> list[int] | None:
        exact = self._vocabulary.exact
        ends = [exact[after] for after in _AFTER_NUMBER if after in exact]
        return number_ending(matcher, exact, [*ends, self._end_tokens[0]], text, self._numbers)

    def _distinguishing_token(self, allowed: NDArray[np.bool_]) -> int | None:
        """Choose a character that makes a repeated key another one."""
        tokens = (self._vocabulary.exact.get(character) for character in "a0_A")
        token = next((token for token in tokens if token is not None and allowed[token]), None)
        return token if token is not None else self._choose_longest(None, allowed)

    def _choose_longest(self, matcher: LLMatcher | None, allowed: NDArray[np.bool_]) -> int | None:
        """Choose the token that fills most of a string with a prescribed length."""
        del matcher
        return int(np.where(allowed, self._vocabulary.fill, -1).argmax()) if allowed.any() else None

    def _make_character_choice(
        self, alternatives: set[str] | None = None, preferred: str | None = None
    ) -> _ChooseToken:
        """Choose a character after which the end is allowed, else rotate, so that a pattern's character comes up.

        Args:
            alternatives: Receives the characters of choices between a few, such as keys or constants of a union.
            preferred: Character to choose wherever it is allowed.
        """
        written: dict[int, int] = {}

        def choose(matcher: LLMatcher, allowed: NDArray[np.bool_]) -> int | None:
            exact = self._vocabulary.exact
            found = {text: token for text, token in exact.items() if len(text) == 1 and allowed[token]}
            characters = list(found.values())
            if alternatives is not None and 1 < len(found) <= _MAX_ALTERNATIVES:
                alternatives.update(found)
            if preferred in found:
                return found[preferred]
            if not characters:
                return self._choose_longest(matcher, allowed)
            final = (token for token in characters if self._may_end_after(matcher, token))
            token = next(final, min(characters, key=lambda token: written.get(token, 0)))
            written[token] = written.get(token, 0) + 1
            return token

        return choose

    def _may_end_after(self, matcher: LLMatcher, token: int) -> bool:
        """Return whether the answer, or the string that it is in, may end after one more token."""
        exact = self._vocabulary.exact
        if self._ending_texts and token == exact.get("\\"):
            # the quote after it would be escaped
            return False
        end = exact.get('"') if self._ending_texts else self._end_tokens[0]
        return end is not None and bool(matcher.validate_tokens([token, end]) == 2)

    def _text(self, tokens: Sequence[int]) -> str:
        texts = self._vocabulary.texts
        return "".join(texts[token] for token in tokens if token < len(texts))


def json_string_state(text: str, *, inside: bool = False, escaped: bool = False) -> tuple[bool, bool]:
    """Return whether JSON text ends inside a string, and whether it ends right after a backslash in one.

    Args:
        text: The text, or a continuation of text that was looked at before.
        inside: Whether the text before ended inside a string.
        escaped: Whether the text before ended right after a backslash.
    """
    for char in text:
        if inside and escaped:
            escaped = False
        elif inside and char == "\\":
            escaped = True
        elif char == '"':
            inside = not inside
    return inside, escaped


def repeats_key(text: str) -> bool:
    """Return whether JSON text ends within a key that its object, if the key ended here, would have twice."""
    objects: list[set[str] | None] = []
    start, before = -1, ""
    escaped = False
    for i, char in enumerate(text):
        if start >= 0:
            if escaped or char == "\\":
                escaped = not escaped
            elif char == '"':
                if before in ("{", ",") and objects and objects[-1] is not None:
                    objects[-1].add(text[start:i])
                start, before = -1, '"'
        elif char == '"':
            start = i + 1
        elif char in "{[":
            objects.append(set() if char == "{" else None)
            before = char
        elif char in "}]":
            if objects:
                objects.pop()
            before = char
        elif not char.isspace():
            before = char
    keys = objects[-1] if objects else None
    return start >= 0 and before in ("{", ",") and keys is not None and text[start:] in keys
