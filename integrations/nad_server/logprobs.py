"""The text of an answer token by token, with the log-probabilities of the tokens."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from nad_agents.rollouts import Rollout

if TYPE_CHECKING:
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

__all__ = [
    "TokenText",
    "chat_logprobs",
    "completion_logprobs",
    "content_token_texts",
    "response_logprobs",
    "token_texts",
]

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_LOWEST = -9999.0
"""JSON has no infinity; OpenAI writes this for tokens of probability 0."""


@dataclass(frozen=True)
class TokenText:
    """A token of an answer.

    Attributes:
        text: What the token adds to the text; empty where a later token completes its character.
        token: The token on its own as text.
        logprob: The token's log-probability in nats.
    """

    text: str
    token: str
    logprob: float


def token_texts(tokenizer: PreTrainedTokenizerBase, rollout: Rollout, visible: Collection[int] = ()) -> list[TokenText]:
    """Return the tokens of an answer up to its end or a stop string; their texts make up the answer's text.

    Args:
        tokenizer: The model's tokenizer.
        rollout: The answer.
        visible: Special tokens that are part of its text.
    """
    if rollout.pieces:
        return _split_pieces(rollout)
    hidden = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special and i not in visible}
    # SentencePiece tokenizers drop a token's leading space at the beginning of a text
    before = tokenizer("a", add_special_tokens=False, verbose=False)["input_ids"][-1:]

    def decode(tokens: list[int]) -> str:
        if visible:
            return str(tokenizer.decode([token for token in tokens if token not in hidden]))
        return str(tokenizer.decode(tokens, skip_special_tokens=True))

    def decode_inside(tokens: list[int]) -> str:
        return decode([*before, *tokens]).removeprefix(decode(before))

    special = set(tokenizer.all_special_ids) - set(visible)
    for decoded in (decode_inside, decode):
        tokens = _split_text(rollout, decoded, special)
        if "".join(token.text for token in tokens) == rollout.text:
            return tokens
    # if the tokens' texts do not add up to the answer's text, the whole text counts as one token
    total = max(float(rollout.logprobs.sum()), _LOWEST)
    return [TokenText(rollout.text, rollout.text, total)] if rollout.text else []


def _split_pieces(rollout: Rollout) -> list[TokenText]:
    """Return the tokens of an answer as the server that generated it wrote them."""
    tokens: list[TokenText] = []
    left = len(rollout.text)
    for piece, logprob in zip(rollout.pieces, rollout.logprobs.tolist(), strict=True):
        if left <= 0:
            break
        # NaN stays, as the server gave no log-probability
        tokens.append(TokenText(piece[:left], piece, _LOWEST if logprob < _LOWEST else logprob))
        left -= len(piece)
    return tokens


def _split_text(rollout: Rollout, decode: Callable[[list[int]], str], special: Collection[int]) -> list[TokenText]:
    """Return the tokens of an answer, each with the text that it adds.

    Args:
        rollout: The answer.
        decode: Function that decodes tokens to text.
        special: Special tokens, which are left out unless they add text.
    """
    ids = rollout.token_ids.tolist()
    tokens: list[TokenText] = []
    # ids[begin:known] is text already; it is decoded again, since a tokenizer writes the start of a text differently
    begin = known = length = 0
    for i, token in enumerate(ids):
        if length >= len(rollout.text):
            break
        before = decode(ids[begin:known])
        through = decode(ids[begin : i + 1])
        text = ""
        last = i + 1 == len(ids)
        if last or not through.endswith(_REPLACEMENT):
            text = through[len(before) :][: len(rollout.text) - length]
            begin, known = known, i + 1
        if token not in special or text:
            tokens.append(TokenText(text, decode([token]), max(float(rollout.logprobs[i]), _LOWEST)))
        length += len(text)
    return tokens


def content_token_texts(tokens: list[TokenText], text: str, thinking: str = "") -> list[TokenText]:
    """Return the tokens of an answer's content, as far as it is one stretch of what the model wrote.

    Args:
        tokens: The tokens of the whole answer.
        text: The content.
        thinking: The thinking before it.
    """
    written = "".join(token.text for token in tokens)
    begin = written.find(thinking) + len(thinking) if thinking else 0
    start = written.find(text, begin)
    end = start + len(text)
    if start < 0:  # calls were cut out of it
        alike = zip(written[begin:], text, strict=False)
        start, end = begin, begin + sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], alike))
    content, position = [], 0
    for token in tokens:
        after = position + len(token.text)
        inside = token.text[max(start - position, 0) : max(end - position, 0)]
        if inside or (not token.text and start <= position < end):
            content.append(replace(token, text=inside))
        position = after
    return content


def chat_logprobs(tokens: list[TokenText]) -> dict[str, Any] | None:
    """Return the log-probabilities in the form of chat completions; None if the engine has none."""
    if not _known(tokens):
        return None
    content = [
        {"token": token.token, "logprob": token.logprob, "bytes": _bytes(token.token), "top_logprobs": []}
        for token in tokens
    ]
    return {"content": content, "refusal": None}


def completion_logprobs(tokens: list[TokenText], start: int = 0) -> dict[str, Any] | None:
    """Return the log-probabilities in the form of completions; None if the engine has none.

    Args:
        tokens: The tokens.
        start: The position of the first one in the text, in characters.
    """
    if not _known(tokens):
        return None
    offsets = []
    for token in tokens:
        offsets.append(start)
        start += len(token.text)
    return {
        "tokens": [token.token for token in tokens],
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": None,
        "text_offset": offsets,
    }


def response_logprobs(tokens: list[TokenText]) -> list[dict[str, Any]]:
    """Return the log-probabilities in the form of responses, where a part of a character has an empty list of bytes."""
    known = chat_logprobs(tokens) or {"content": []}
    return [{**entry, "bytes": entry["bytes"] or []} for entry in known["content"]]


def _known(tokens: list[TokenText]) -> bool:
    return not any(math.isnan(token.logprob) for token in tokens)


def _bytes(token: str) -> list[int] | None:
    return None if _REPLACEMENT in token else list(token.encode("utf-8", "surrogatepass"))
