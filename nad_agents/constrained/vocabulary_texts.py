"""The texts of a tokenizer's vocabulary, and what each means in JSON."""

from __future__ import annotations

import re
import string
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from nad_agents.fork import ForkSafeLock

if TYPE_CHECKING:
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

__all__ = ["JSON_ENDING_TEXTS", "VocabularyTexts", "vocabulary_texts"]

JSON_ENDING_TEXTS = ("}", "]", '"', ",", ":", " ", "0", "null", "true", "n", "t", "[", "{")
"""What to write in JSON outside a string, in the order that leads to the end soonest."""

_LITERALS = {*string.digits, "true", "false", "null"}

_LONG_EXPONENT = re.compile(r"[0-9.]*[eE][+]?[0-9]{2}")


@dataclass(frozen=True)
class VocabularyTexts:
    """The texts of a tokenizer's vocabulary, and what they mean in JSON.

    Attributes:
        texts: Text of each token, by id.
        exact: Token id by text, for single characters and the texts in `JSON_ENDING_TEXTS`.
        fill: Float32 [tokens], how many characters of a string a token fills; the highest fills a length soonest.
        plain: Bool [tokens], whether a token within a string neither ends the string nor escapes anything.
        literals: Bool [tokens], whether a token is a digit or a JSON literal.
        long_exponents: Tokens that write two digits or more of a number's exponent together with its letter.
    """

    texts: list[str]
    exact: dict[str, int]
    fill: NDArray[np.float32]
    plain: torch.Tensor
    literals: torch.Tensor
    long_exponents: tuple[int, ...]


_VOCABULARIES: weakref.WeakKeyDictionary[PreTrainedTokenizerBase, VocabularyTexts] = weakref.WeakKeyDictionary()
_VOCABULARIES_LOCK = ForkSafeLock()


def vocabulary_texts(tokenizer: PreTrainedTokenizerBase) -> VocabularyTexts:
    """Return the texts of a tokenizer's vocabulary, which are computed once.

    Args:
        tokenizer: The model's tokenizer.
    """
    with _VOCABULARIES_LOCK:
        if tokenizer not in _VOCABULARIES:
            texts = [str(text) for text in tokenizer.batch_decode([[i] for i in range(len(tokenizer))])]
            wanted = {*JSON_ENDING_TEXTS, *string.printable.strip()}
            exact: dict[str, int] = {}
            names = tokenizer.convert_ids_to_tokens(list(range(len(texts))))
            for i, text in enumerate(texts):
                # a SentencePiece tokenizer decodes a token with a space before the text to the same text
                if text in wanted and (text not in exact or names[i] == text != names[exact[text]]):
                    exact[text] = i
            special = set(tokenizer.all_special_ids)
            # a token that ends in the middle of a character determines the next ones, as an escape does
            plain = [bool(t) and not {'"', "\\", "\ufffd"} & set(t) and i not in special for i, t in enumerate(texts)]
            fill = [len(t) if t.isascii() and t.isalnum() else 0.5 * p for t, p in zip(texts, plain, strict=True)]
            _VOCABULARIES[tokenizer] = VocabularyTexts(
                texts=texts,
                # one of each kind first, then rare characters first, so that one that a pattern waits for comes early
                exact=dict(sorted(exact.items(), key=lambda x: (x[0] not in "0aA", x[0].isalpha(), x[0].isdigit()))),
                fill=np.array(fill, np.float32),
                plain=torch.tensor(plain),
                literals=torch.tensor([text in _LITERALS for text in texts]),
                long_exponents=tuple(i for i, text in enumerate(texts) if _LONG_EXPONENT.match(text)),
            )
        return _VOCABULARIES[tokenizer]
