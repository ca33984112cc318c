"""Read a server's answer piece by piece: text, log-probabilities, thinking and tool calls."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

__all__ = ["AnswerPiece", "PieceReader", "PieceTable"]

_CONFIDENCE_TOP = 20
"""Number of likeliest tokens that the confidence averages over (arXiv 2508.15260); servers return no more."""


@dataclass(frozen=True)
class AnswerPiece:
    """A token of an answer, or one chunk of text if the server does not separate tokens.

    Attributes:
        text: The text that the token adds to the answer.
        logprob: Log-probability in nats; NaN if the server does not return it.
        confidence: Negative mean log-probability of the likeliest tokens in nats; NaN if the server returns none.
        token: The token's id if the server returns it; the text is empty then.
        from_text: Whether this is a token of the answer's text, for which a server with log-probabilities has one;
            thinking and tool calls may come without.
    """

    text: str
    logprob: float = math.nan
    confidence: float = math.nan
    token: int | None = None
    from_text: bool = True


@dataclass(eq=False)
class PieceReader:
    """Reads the chunks of one streamed answer.

    Thinking that the server separates from the text is put back between <think> and </think>, and tool calls are
    written as text (<tool_call>), so that front ends read the answer like that of a local model.

    Attributes:
        room: Number of tokens of text that may still come; a server that counts differently may send more.
    """

    room: int
    _thinking: bool = False
    _calls: dict[int, dict[str, str]] = field(default_factory=dict)

    def read(self, choice: Any) -> Iterator[AnswerPiece]:
        """Yield the pieces of one chunk.

        Args:
            choice: The first of the chunk's `choices`.
        """
        delta = getattr(choice, "delta", None)
        text = getattr(choice, "text", None) if delta is None else delta.content
        logprobs = getattr(choice, "logprobs", None)
        thinking = _extra(delta, "reasoning_content") or _extra(delta, "reasoning")
        if thinking:
            if not self._thinking:
                yield AnswerPiece("<think>", from_text=False)
            # log-probabilities that come with thinking and text at once cannot be told apart
            for piece in _with_logprobs(thinking, None if text else logprobs):
                yield replace(piece, from_text=False)
            self._thinking = True
        for call in getattr(delta, "tool_calls", None) or ():
            known = self._calls.setdefault(call.index, {"name": "", "arguments": ""})
            known["name"] += getattr(call.function, "name", None) or ""
            known["arguments"] += getattr(call.function, "arguments", None) or ""
        if text:
            if self._thinking:
                yield AnswerPiece("</think>\n", from_text=False)
            self._thinking = False
            for piece in _with_logprobs(text, logprobs):
                if self.room > 0:
                    yield piece
                self.room -= 1

    def end(self) -> Iterator[AnswerPiece]:
        """Yield the tool calls, which are complete only when the answer has ended."""
        if self._thinking:
            yield AnswerPiece("</think>\n", from_text=False)
        for _, call in sorted(self._calls.items()):
            try:
                arguments = json.loads(call["arguments"] or "{}")
            except ValueError:
                arguments = call["arguments"]
            body = json.dumps({"name": call["name"], "arguments": arguments}, ensure_ascii=False)
            yield AnswerPiece(f"<tool_call>\n{body}\n</tool_call>\n", from_text=False)


def _extra(delta: Any, name: str) -> str:
    """Return a field of a delta that OpenAI's own protocol lacks; an empty text if the delta lacks it too."""
    value = getattr(delta, name, None)
    return value if isinstance(value, str) else ""


def _with_logprobs(text: str, logprobs: Any) -> Iterator[AnswerPiece]:
    tokens = list(_tokens(logprobs))
    if not tokens:
        yield AnswerPiece(text)
        return
    # a token with part of a character has no text; if the tokens' texts do not add up, the first token gets all text
    adds_up = "".join(token for token, _, _ in tokens) == text
    for i, (token, logprob, top) in enumerate(tokens):
        piece = token if adds_up else text if i == 0 else ""
        confidence = -sum(top) / len(top) if top else math.nan
        yield AnswerPiece(piece, logprob, confidence)


def _tokens(logprobs: Any) -> Iterator[tuple[str, float, list[float]]]:
    """Yield each token with its log-probability and those of the likeliest ones, for chats and for completions."""
    for entry in getattr(logprobs, "content", None) or ():
        top = sorted((other.logprob for other in entry.top_logprobs or ()), reverse=True)
        yield entry.token, entry.logprob, top[:_CONFIDENCE_TOP]
    tops = getattr(logprobs, "top_logprobs", None) or []
    for i, token in enumerate(getattr(logprobs, "tokens", None) or ()):
        top = sorted((tops[i] or {}).values(), reverse=True) if i < len(tops) else []
        yield token, logprobs.token_logprobs[i], top[:_CONFIDENCE_TOP]


class PieceTable:
    """Numbers the pieces of one generation, replacing a tokenizer's vocabulary.

    Args:
        stop: Stop strings; the text ends before the first one.
    """

    def __init__(self, stop: tuple[str, ...]) -> None:
        self._stop = stop
        self._texts: list[str] = []
        self._numbers: dict[str, int] = {}

    def number(self, piece: str) -> int:
        """Return the number of a piece of text."""
        if piece not in self._numbers:
            self._numbers[piece] = len(self._texts)
            self._texts.append(piece)
        return self._numbers[piece]

    def pieces(self, tokens: Sequence[int]) -> tuple[str, ...]:
        """Return the texts of numbered pieces."""
        return tuple(self._texts[number] for number in tokens)

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of numbered pieces, cut before the first stop string."""
        text = "".join(self.pieces(tokens))
        cuts = [at for stop in self._stop if (at := text.find(stop)) >= 0]
        return text[: min(cuts)] if cuts else text
