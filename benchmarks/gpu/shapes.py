"""The random models, and how much is asked of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

EOS = 0


@dataclass(frozen=True)
class Shape:
    """A random model and how much is asked of it.

    Attributes:
        architecture: Model type of transformers.
        config: Parameters of its config.
        rows: Rows of the two recorder rows.
        tokens: New tokens of a candidate.
        prompt: Tokens of the long prompt.
        waiting: Requests that wait in the two rows with many requests.
        wide: Candidates of each of many prompts in one batch; 0 leaves the row out.
        gguf: Whether a GGUF file of the model is loaded.
    """

    architecture: str
    config: dict[str, Any]
    rows: tuple[int, ...] = (16, 64)
    tokens: int = 64
    prompt: int = 512
    waiting: int = 32
    wide: int = 0
    gguf: bool = False


_QWEN = {"vocab_size": 151_936, "max_position_embeddings": 32_768, "bos_token_id": None, "eos_token_id": EOS}
SHAPES = {
    "tiny": Shape(
        "qwen2",
        {
            **_QWEN,
            "vocab_size": 2048,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
        },
        rows=(2, 4),
        tokens=8,
        prompt=32,
        waiting=3,
        wide=4,
        gguf=True,
    ),
    "0.5b": Shape(
        "qwen2",
        {
            **_QWEN,
            "hidden_size": 896,
            "intermediate_size": 4864,
            "num_hidden_layers": 24,
            "num_attention_heads": 14,
            "num_key_value_heads": 2,
            "tie_word_embeddings": True,
        },
        wide=64,
        gguf=True,
    ),
    "7b": Shape(
        "qwen2",
        {
            **_QWEN,
            "vocab_size": 152_064,
            "hidden_size": 3584,
            "intermediate_size": 18_944,
            "num_hidden_layers": 28,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
        },
    ),
    "moe": Shape(
        "qwen3_moe",
        {
            **_QWEN,
            "hidden_size": 2048,
            "intermediate_size": 6144,
            "moe_intermediate_size": 768,
            "num_hidden_layers": 24,
            "num_attention_heads": 32,
            "num_key_value_heads": 4,
            "head_dim": 128,
            "num_experts": 128,
            "num_experts_per_tok": 8,
        },
        waiting=16,
    ),
}
"""Qwen2.5-0.5B and 7B, and half of the layers of Qwen3-30B-A3B."""


def random_model(shape: Shape, device: torch.device, dtype: torch.dtype) -> PreTrainedModel:
    config = AutoConfig.for_model(shape.architecture, **shape.config)
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    # at temperature 0.8 and top-k 50 no candidate ends before its limit
    model.get_output_embeddings().weight.data[EOS] = 0
    model.generation_config.eos_token_id = model.generation_config.pad_token_id = EOS
    return model.eval().requires_grad_(False)
