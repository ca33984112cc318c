"""Filling the gap between a prompt and a suffix, for models that were trained to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nad_server.errors import APIError

if TYPE_CHECKING:
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

__all__ = ["fill_in_prompt"]

_MARKS = (
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),  # Qwen 2.5 Coder, CodeGemma
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),  # StarCoder, SantaCoder, Granite
    ("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),  # DeepSeek Coder
    ("▁<PRE>", "▁<SUF>", "▁<MID>"),  # Code Llama
)
"""What stands before the prompt, before the suffix, and before the answer."""


def fill_in_prompt(tokenizer: PreTrainedTokenizerBase, prompt: str, suffix: str) -> str:
    """The text that makes a model write what stands between prompt and suffix.

    Raises:
        APIError: the model knows no such marks.
    """
    known = tokenizer.get_vocab()
    for before, after, middle in _MARKS:
        if before in known and after in known and middle in known:
            return f"{before}{prompt}{after}{suffix}{middle}"
    message = "this model cannot fill in before a suffix; leave it out, or serve a model such as Qwen2.5-Coder"
    raise APIError(400, message, code="unsupported_parameter", param="suffix")
