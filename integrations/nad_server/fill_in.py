"""Filling the gap between a prompt and a suffix, for models that were trained to."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from nad_server.errors import APIError

if TYPE_CHECKING:
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

__all__ = ["fill_in_prompt"]

_TEMPLATES = (
    # the prompt comes first
    "<|fim_prefix|>{prompt}<|fim_suffix|>{suffix}<|fim_middle|>",  # Qwen 2.5 Coder, CodeGemma
    "<fim_prefix>{prompt}<fim_suffix>{suffix}<fim_middle>",  # StarCoder, Stable Code, Granite
    "<fim-prefix>{prompt}<fim-suffix>{suffix}<fim-middle>",  # SantaCoder
    "<｜fim▁begin｜>{prompt}<｜fim▁hole｜>{suffix}<｜fim▁end｜>",  # DeepSeek Coder
    "▁<PRE>{prompt}▁<SUF>{suffix}▁<MID>",  # Code Llama
    # the suffix comes first, so that the answer goes on where the prompt ends
    "<[fim-suffix]>{suffix}<[fim-prefix]>{prompt}<[fim-middle]>",  # Seed-Coder
    "<|code_suffix|>{suffix}<|code_prefix|>{prompt}<|code_middle|>",  # CodeGeeX4
    "[SUFFIX]{suffix}[PREFIX]{prompt}",  # Codestral
)
"""What the families were trained on; a model knows one if each mark is a token of its vocabulary."""
_PARTS = re.compile(r"\{prompt\}|\{suffix\}")


def fill_in_prompt(tokenizer: PreTrainedTokenizerBase, prompt: str, suffix: str) -> str:
    """The text that makes a model write what stands between prompt and suffix.

    Raises:
        APIError: the model knows no such marks.
    """
    known = tokenizer.get_vocab()
    for template in _TEMPLATES:
        if all(mark in known for mark in _PARTS.split(template) if mark):
            return template.format(prompt=prompt, suffix=suffix)
    message = "suffix: this model cannot fill in before one; leave it out, or serve a model such as Qwen2.5-Coder"
    raise APIError(400, message, code="unsupported_parameter", param="suffix")
