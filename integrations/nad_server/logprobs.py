"""An answer's text token by token, with the tokens' log-probabilities."""

from __future__ import annotations

from collections.abc import Collection
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
_LEAST = -9999.0
"""JSON has no infinity; OpenAI writes this for tokens that cannot be."""


@dataclass(frozen=True)
class TokenText:
    """A token.

    Attributes:
        text: what it adds to the text; empty where only the next one completes a character.
        token: the token itself as text.
        logprob: nats.
    """

    text: str
    token: str
    logprob: float


def token_texts(tokenizer: PreTrainedTokenizerBase, rollout: Rollout, visible: Collection[int] = ()) -> list[TokenText]:
    """The tokens of an answer, up to its end or a stop string; their texts make up the answer's.

    Args:
        tokenizer: of the model.
        rollout: the answer.
        visible: special tokens that are in its text.
    """
    ids = rollout.token_ids.tolist()
    special = set(tokenizer.all_special_ids) - set(visible)
    hidden = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special and i not in visible}

    def decode(tokens: list[int]) -> str:
        if visible:
            return str(tokenizer.decode([one for one in tokens if one not in hidden]))
        return str(tokenizer.decode(tokens, skip_special_tokens=True))

    found: list[TokenText] = []
    begin = known = at = 0
    for i, token in enumerate(ids):
        if at >= len(rollout.text):
            break
        before = decode(ids[begin:known])
        whole = decode(ids[begin : i + 1])
        text = ""
        last = i + 1 == len(ids)
        if last or not whole.endswith(_REPLACEMENT):
            text = whole[len(before) :][: len(rollout.text) - at]
            begin, known = known, i + 1
        if token not in special or text:
            found.append(TokenText(text, decode([token]), max(float(rollout.logprobs[i]), _LEAST)))
        at += len(text)
    if "".join(piece.text for piece in found) != rollout.text:
        # the tokenizer writes a token differently with what stands around it: one piece is always right
        total = max(float(rollout.logprobs.sum()), _LEAST)
        return [TokenText(rollout.text, rollout.text, total)] if rollout.text else []
    return found


def chat_logprobs(pieces: list[TokenText]) -> dict[str, Any]:
    """As chat completions have them."""
    content = [{"token": p.token, "logprob": p.logprob, "bytes": _bytes(p.token), "top_logprobs": []} for p in pieces]
    return {"content": content, "refusal": None}


def completion_logprobs(pieces: list[TokenText], start: int = 0) -> dict[str, Any]:
    """As completions have them.

    Args:
        pieces: tokens.
        start: where the first one stands in the text.
    """
    offsets = []
    for piece in pieces:
        offsets.append(start)
        start += len(piece.text)
    return {
        "tokens": [p.token for p in pieces],
        "token_logprobs": [p.logprob for p in pieces],
        "top_logprobs": None,
        "text_offset": offsets,
    }


def response_logprobs(pieces: list[TokenText]) -> list[dict[str, Any]]:
    """As responses have them, where a part of a character has no bytes."""
    return [{**entry, "bytes": entry["bytes"] or []} for entry in chat_logprobs(pieces)["content"]]


def content_token_texts(pieces: list[TokenText], text: str, thinking: str = "") -> list[TokenText]:
    """The pieces that a part of an answer is made of, as far as it stands there in one stretch.

    Args:
        pieces: of the whole answer.
        text: of the part.
        thinking: what stands before it.
    """
    written = "".join(piece.text for piece in pieces)
    begin = written.find(thinking) + len(thinking) if thinking else 0
    start = written.find(text, begin)
    end = start + len(text)
    if start < 0:  # calls were cut out of it
        alike = zip(written[begin:], text, strict=False)
        start, end = begin, begin + sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], alike))
    found, at = [], 0
    for piece in pieces:
        after = at + len(piece.text)
        shown = piece.text[max(start - at, 0) : max(end - at, 0)]
        if shown or (not piece.text and start <= at < end):
            found.append(replace(piece, text=shown))
        at = after
    return found


def _bytes(token: str) -> list[int] | None:
    return None if _REPLACEMENT in token else list(token.encode("utf-8", "surrogatepass"))
