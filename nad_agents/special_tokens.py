"""Keep the text of special tokens in messages apart from the special tokens that a chat template writes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

__all__ = ["EscapedTokens", "texts_of"]

_SPACE = "\u2581"
"""What SentencePiece tokenizers write for a space."""

_BRACKETED = re.compile(rf"{_SPACE}?(?:<\S+>|\[\S+\])")
_BARRED = re.compile(r"<[|\uff5c]\S+[|\uff5c]>")


class EscapedTokens:
    """Distinguishes texts of special tokens in messages from the special tokens that the template writes.

    Each such text is one private-use character while the template is rendered. The rendered prompt is then encoded in
    pieces that end within these texts, so that no piece holds one of them whole. Neighboring parts of a content that
    together form such a text are separated by another private-use character.

    Args:
        tokenizer: The model's tokenizer.
        given: Nested messages and tools, or the values of a template.
        template: Source of the template.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, given: Any, template: str) -> None:
        self._tokenizer = tokenizer
        texts = "\n".join(texts_of(given))
        self._special = _control_tokens(tokenizer, template)
        found = sorted({token for token in self._special if token in texts}, key=len, reverse=True)
        free = (chr(code) for code in range(0xF0000, 0xFFFFE) if chr(code) not in texts)
        self._split = next(free)
        self._written = dict(zip(found, free, strict=False))
        if any(self._are_one(first, second) for first, second in _neighbors(given)):
            self._written[""] = self._split

    def __bool__(self) -> bool:
        return bool(self._written)

    def escape(self, given: Any) -> Any:
        """Return nested messages or tools in which every text of a special token is one character."""
        if isinstance(given, str):
            for token, character in self._written.items():
                given = given.replace(token, character) if token else given
            return given
        if isinstance(given, Mapping):
            return {self.escape(key): self.escape(value) for key, value in given.items()}
        if not isinstance(given, list | tuple):
            return given
        escaped = [self.escape(item) for item in given]
        for i, (first, second) in enumerate(pairwise(given), 1):
            if self._are_one(first, second):
                escaped[i] = {**escaped[i], "text": self._split + escaped[i]["text"]}
        return escaped

    def _are_one(self, first: Any, second: Any) -> bool:
        """Return whether the texts of two neighbors together form the text of a special token."""
        if not all(isinstance(part, Mapping) and isinstance(part.get("text"), str) for part in (first, second)):
            return False
        ends = ((token, first["text"][1 - len(token) :], second["text"][: len(token) - 1]) for token in self._special)
        return any(token in end + beginning for token, end, beginning in ends if len(token) > 1)

    def encode(self, rendered: str, *, add_special_tokens: bool = False) -> list[int]:
        """Return the tokens of a rendered prompt.

        Args:
            rendered: The prompt, rendered with escaped messages, tools or values.
            add_special_tokens: Whether the tokenizer puts its own special tokens before the prompt.
        """
        tokens = {character: token for token, character in self._written.items()}
        pieces = [""]
        for character in rendered:
            token = tokens.get(character)
            if token is None:
                pieces[-1] += character
            else:
                pieces[-1] += token[:1]
                pieces.append(token[1:])
        ids: list[int] = []
        for i, piece in enumerate(pieces):
            first = add_special_tokens and i == 0
            encoded = list(self._tokenizer(piece, add_special_tokens=first, verbose=False)["input_ids"])
            ids += self._continued(encoded) if i and not piece.startswith(" ") else encoded
        return ids

    def _continued(self, ids: list[int]) -> list[int]:
        """Return a piece's tokens without the space that SentencePiece tokenizers put before every text."""
        first = self._tokenizer.convert_ids_to_tokens(ids[:1])
        if not first or not str(first[0]).startswith(_SPACE):
            return ids
        rest = str(first[0]).removeprefix(_SPACE)
        known = self._tokenizer.get_vocab()
        if not rest:
            return ids[1:]
        return [known[rest], *ids[1:]] if rest in known else ids


def _control_tokens(tokenizer: PreTrainedTokenizerBase, template: str) -> set[str]:
    """Return the texts of the tokens that may end a message: special tokens, and others that look like special tokens.

    Several models do not mark tokens such as <|User|> as special. Paired tags such as <think> and </think> are left
    out, since they structure the text of a message, and templates look for them.
    """
    added = [token for token in tokenizer.added_tokens_decoder.values() if token.content]
    texts = {token.content for token in added}

    def is_control(text: str) -> bool:
        partner = text.replace("</", "<", 1) if text.startswith("</") else text.replace("<", "</", 1)
        paired = partner != text and partner in texts
        bracketed = _BRACKETED.fullmatch(text) is not None and text in template and not paired
        return bracketed or _BARRED.fullmatch(text) is not None

    return {token.content for token in added if token.special or is_control(token.content)}


def _neighbors(given: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every pair of neighbors in the lists of nested messages."""
    if isinstance(given, Mapping):
        for value in given.values():
            yield from _neighbors(value)
    elif isinstance(given, list | tuple):
        yield from pairwise(given)
        for item in given:
            yield from _neighbors(item)


def texts_of(given: Any) -> Iterator[str]:
    """Yield every string in nested messages or tools."""
    if isinstance(given, str):
        yield given
    elif isinstance(given, Mapping):
        for key, value in given.items():
            yield from texts_of(key)
            yield from texts_of(value)
    elif isinstance(given, list | tuple):
        for item in given:
            yield from texts_of(item)
