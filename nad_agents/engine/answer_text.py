"""Decode a candidate's tokens to text."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

__all__ = ["AnswerText"]

_CONTEXT = 8
"""Number of tokens at the end of the prompt that are decoded together with a candidate."""


class AnswerText:
    """Decodes the candidates of one request.

    Args:
        tokenizer: The model's tokenizer.
        prompt_ids: The prompt's tokens. SentencePiece tokenizers drop a leading space at the beginning of a text, so an
            answer is decoded after the end of its prompt.
        stop: Stop strings; the text ends before the first one.
        visible_tokens: Special tokens that stay in the text.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        prompt_ids: Sequence[int],
        *,
        stop: Sequence[str] = (),
        visible_tokens: Collection[int] = (),
    ) -> None:
        self._tokenizer = tokenizer
        self._stop = stop
        self._keeps_special = bool(visible_tokens)
        added = tokenizer.added_tokens_decoder.items() if visible_tokens else ()
        self._hidden = {i for i, token in added if token.special and i not in visible_tokens}
        self._context = list(prompt_ids[-_CONTEXT:])
        self._context_text = self._plain(self._context)

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of a candidate's tokens, cut before the first stop string."""
        text = self._plain([*self._context, *tokens]) if self._context_text else ""
        if self._context_text and text.startswith(self._context_text):
            text = text[len(self._context_text) :]
        else:
            text = self._plain(tokens)
        cuts = [at for stop in self._stop if (at := text.find(stop)) >= 0]
        return text[: min(cuts)] if cuts else text

    def pieces(self, tokens: Sequence[int]) -> tuple[str, ...]:  # noqa: ARG002 - the tokenizer decodes them as well
        """Return no texts, since the model's tokenizer can decode the tokens."""
        return ()

    def _plain(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens, without special tokens that are not in `visible_tokens`."""
        if self._keeps_special:
            return str(self._tokenizer.decode([token for token in tokens if token not in self._hidden]))
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=True))
