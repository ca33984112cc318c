"""An answer's text token by token, with the tokens' log-probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nad_agents.rollouts import Rollout

if TYPE_CHECKING:
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

__all__ = ["Piece", "chat_logprobs", "completion_logprobs", "leading", "pieces_of", "response_logprobs"]

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_LEAST = -9999.0
"""JSON has no infinity; OpenAI writes this for tokens that cannot be."""


@dataclass(frozen=True)
class Piece:
    """A token.

    Attributes:
        text: what it adds to the text; empty where only the next one completes a character.
        token: the token itself as text.
        logprob: nats.
    """

    text: str
    token: str
    logprob: float


def pieces_of(tokenizer: PreTrainedTokenizerBase, rollout: Rollout) -> list[Piece]:
    """The tokens of an answer, up to its end or a stop string; their texts make up the answer's."""
    ids = rollout.token_ids.tolist()
    special = set(tokenizer.all_special_ids)
    found: list[Piece] = []
    begin = known = at = 0
    for i, token in enumerate(ids):
        if at >= len(rollout.text):
            break
        before = _decode(tokenizer, ids[begin:known])
        whole = _decode(tokenizer, ids[begin : i + 1])
        text = ""
        last = i + 1 == len(ids)
        if last or not whole.endswith(_REPLACEMENT):
            text = whole[len(before) :][: len(rollout.text) - at]
            begin, known = known, i + 1
        if token not in special or text:
            found.append(Piece(text, _decode(tokenizer, [token]), max(float(rollout.logprobs[i]), _LEAST)))
        at += len(text)
    if "".join(piece.text for piece in found) != rollout.text:
        # the tokenizer writes a token differently with what stands around it: one piece is always right
        total = max(float(rollout.logprobs.sum()), _LEAST)
        return [Piece(rollout.text, rollout.text, total)] if rollout.text else []
    return found


def chat_logprobs(pieces: list[Piece]) -> dict[str, Any]:
    """As chat completions have them."""
    content = [{"token": p.token, "logprob": p.logprob, "bytes": _bytes(p.token), "top_logprobs": []} for p in pieces]
    return {"content": content, "refusal": None}


def completion_logprobs(pieces: list[Piece], start: int = 0) -> dict[str, Any]:
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


def response_logprobs(pieces: list[Piece]) -> list[dict[str, Any]]:
    """As responses have them, where a part of a character has no bytes."""
    return [{**entry, "bytes": entry["bytes"] or []} for entry in chat_logprobs(pieces)["content"]]


def leading(pieces: list[Piece], text: str) -> list[Piece]:
    """The pieces with which a text begins."""
    at = 0
    for i, piece in enumerate(pieces):
        if not text.startswith(piece.text, at):
            return pieces[:i]
        at += len(piece.text)
    return pieces


def _bytes(token: str) -> list[int] | None:
    return None if _REPLACEMENT in token else list(token.encode("utf-8", "surrogatepass"))


def _decode(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=True))
