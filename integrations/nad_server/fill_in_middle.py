"""Prompts by which a model writes what stands between a prompt and a suffix (fill in the middle)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from nad_agents.prompt import TemplatedText
from nad_server.errors import APIError

if TYPE_CHECKING:
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

__all__ = ["fill_in_middle_prompt"]

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
"""What each family was trained on; a model belongs to a family if every mark is a token of its vocabulary."""

_PLACEHOLDERS = re.compile(r"\{prompt\}|\{suffix\}")


def fill_in_middle_prompt(tokenizer: PreTrainedTokenizerBase, prompt: str, suffix: str) -> TemplatedText:
    """Return the text after which a model writes what stands between a prompt and a suffix.

    Marks that stand in the prompt or the suffix, as in the source of a program about such models, are text.

    Args:
        tokenizer: The model's tokenizer.
        prompt: The text before the gap.
        suffix: The text after the gap.

    Raises:
        APIError: The model was not trained to fill in the middle.
    """
    vocabulary = tokenizer.get_vocab()
    for template in _TEMPLATES:
        if all(mark in vocabulary for mark in _PLACEHOLDERS.split(template) if mark):
            return TemplatedText(template, prompt=prompt, suffix=suffix)
    message = "suffix: this model cannot fill in before one; leave it out, or serve a model such as Qwen2.5-Coder"
    raise APIError(400, message, code="unsupported_parameter", param="suffix")
