"""Tiny configs of the model families on which recording is proven, or of which nothing is recorded.

A version of transformers that lacks some of them leaves these out (`ABSENT`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForImageTextToText, PreTrainedConfig, PreTrainedModel
from transformers.models.deepseek_v4.modeling_deepseek_v4 import DeepseekV4HCACache

from tests.tiny_models import D_FF, EOS, make_model

_WINDOW = {"head_dim": 8, "sliding_window": 16}
_GEMMA_4 = {
    "sliding_window": 16,
    "head_dim": 8,
    "global_head_dim": 8,
    "hidden_size_per_layer_input": 8,
    "vocab_size_per_layer_input": 257,
    "num_hidden_layers": 4,
    "num_kv_shared_layers": 2,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
}
_MOE = {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
_LOCAL = {"num_local_experts": 6, "num_experts_per_tok": 2}
_SHARED = {"shared_expert_intermediate_size": 24}
_DEEPSEEK = {
    "n_routed_experts": 6,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "n_shared_experts": 2,
    "n_group": 2,
    "topk_group": 1,
    "num_key_value_heads": 4,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 4,
    "v_head_dim": 8,
}
_DSA = {"index_n_heads": 2, "index_head_dim": 8, "index_topk": 64}
_DELTA = {
    "head_dim": 8,
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "layer_types": ["linear_attention", "full_attention", "linear_attention"],
}
_VISION = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "patch_size": 4,
    "image_size": 16,
}
_MAMBA2 = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 1, "mamba_expand": 2}


@dataclass(frozen=True)
class Family:
    """A model family.

    Attributes:
        architecture: Model type of transformers.
        name: What people call it.
        options: Parameters of the tiny config.
        attribution: Whether the attribution score is defined for it.
    """

    architecture: str
    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    attribution: bool = True


_DECODERS = (
    Family("llama", "Llama 2, 3"),
    Family("qwen2", "Qwen 2, 2.5"),
    Family("qwen3", "Qwen 3", {"head_dim": 8}),
    Family("mistral", "Mistral"),
    Family("ministral3", "Ministral 3", {"head_dim": 8}),
    Family("gemma", "Gemma", {"head_dim": 8}),
    Family("gemma2", "Gemma 2", _WINDOW),
    Family("gemma3_text", "Gemma 3", _WINDOW),
    Family(
        "gemma3n_text",
        "Gemma 3n",
        {
            **_WINDOW,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
            "num_hidden_layers": 4,
            "num_kv_shared_layers": 2,
            "intermediate_size": [D_FF] * 4,
            "activation_sparsity_pattern": [0.5, 0.0, 0.0, 0.0],
            "altup_num_inputs": 2,
            "laurel_rank": 4,
            "hidden_size_per_layer_input": 8,
            "vocab_size_per_layer_input": 257,
        },
    ),
    Family("gemma4_text", "Gemma 4", _GEMMA_4),
    Family("olmo2", "OLMo 2"),
    Family("olmo3", "OLMo 3", {"sliding_window": 16}),
    Family("smollm3", "SmolLM 3"),
    Family("granite", "Granite 3"),
    Family("seed_oss", "Seed-OSS", {"head_dim": 8}),
    Family("exaone4", "Exaone 4", {"sliding_window": 16}),
    Family("cohere2", "Command R7B, A", {"sliding_window": 16}),
    Family("phi3", "Phi-3, 4"),
    Family("glm4", "GLM-4", {"head_dim": 8}),
    Family("nemotron", "Nemotron"),
    Family("arcee", "Arcee AFM"),
    Family("apertus", "Apertus"),
    Family("gpt2", "GPT-2", {"n_inner": D_FF}),
    Family("gpt_neox", "Pythia"),
    Family("opt", "OPT", {"ffn_dim": D_FF, "word_embed_proj_dim": 32}),
    Family("falcon", "Falcon", {"ffn_hidden_size": D_FF}),
    Family("starcoder2", "StarCoder 2"),
    Family("bloom", "Bloom"),
    Family("lfm2", "LFM2", {"block_auto_adjust_ff_dim": False, "layer_types": ["conv", "full_attention", "conv"]}),
    Family("lfm3", "LFM3", {"layer_types": ["conv", "full_attention", "conv"]}),
    Family("qwen3_5_text", "Qwen 3.5", _DELTA),
    Family("falcon_h1", "Falcon-H1", {**_MAMBA2, "mamba_d_ssm": 64}),
    Family("bamba", "Bamba", {**_MAMBA2, "attn_layer_indices": [1]}),
    Family(
        "zamba2",
        "Zamba2",
        {
            "num_hidden_layers": 4,
            "layers_block_type": ["mamba", "hybrid", "mamba", "hybrid"],
            "hybrid_layer_ids": [1, 3],
            "num_mem_blocks": 1,
            "attention_hidden_size": 64,
            "attention_head_dim": 16,
            "num_key_value_heads": 4,
            "mamba_ngroups": 1,
            "n_mamba_heads": 8,
            "mamba_d_state": 8,
            "use_shared_attention_adapter": True,
            "adapter_rank": 4,
        },
        attribution=False,
    ),
    Family(
        "nemotron_h",
        "Nemotron-H, Nemotron 3",
        {
            "layers_block_type": ["mamba", "mlp", "attention", "moe"],
            "num_hidden_layers": 4,
            "head_dim": 8,
            "mamba_num_heads": 8,
            "mamba_head_dim": 8,
            "ssm_state_size": 8,
            "n_groups": 1,
            "n_routed_experts": 6,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 16,
            "moe_shared_expert_intermediate_size": 24,
        },
    ),
    Family("jamba", "Jamba", {"num_experts": 6, "attn_layer_period": 2, "attn_layer_offset": 1}),
    Family(
        "granitemoehybrid",
        "Granite 4 hybrid",
        {**_MAMBA2, **_LOCAL, "shared_intermediate_size": 24, "layer_types": ["mamba", "attention", "mamba"]},
    ),
    Family("granitemoe", "Granite MoE", _LOCAL),
    Family("mixtral", "Mixtral", _LOCAL),
    Family("olmoe", "OLMoE", {"num_experts": 6, "num_experts_per_tok": 2}),
    Family("qwen2_moe", "Qwen 2 MoE", {**_MOE, **_SHARED}),
    Family("qwen3_moe", "Qwen 3 MoE", {**_MOE, "head_dim": 8}),
    Family("qwen3_next", "Qwen3-Next", {**_MOE, **_SHARED, **_DELTA}),
    Family("qwen3_5_moe_text", "Qwen 3.5 MoE", {**_MOE, **_SHARED, **_DELTA}),
    Family("gpt_oss", "gpt-oss", {**_LOCAL, **_WINDOW}),
    Family("glm4_moe", "GLM-4.5, 4.6", {**_DEEPSEEK, "first_k_dense_replace": 1, "head_dim": 8}),
    Family(
        "glm_moe_dsa", "GLM-5", {**_DEEPSEEK, **_DSA, "head_dim": 4, "mlp_layer_types": ["dense", "sparse", "sparse"]}
    ),
    Family("deepseek_v2", "DeepSeek V2", {**_DEEPSEEK, "head_dim": 4, "first_k_dense_replace": 1}),
    Family("deepseek_v3", "DeepSeek V3, R1; Kimi K2", {**_DEEPSEEK, "head_dim": 4, "first_k_dense_replace": 1}),
    Family(
        "deepseek_v4",
        "DeepSeek V4",
        {
            **_DEEPSEEK,
            **_DSA,
            "n_shared_experts": 1,
            "num_key_value_heads": 1,
            "head_dim": 8,
            "mlp_layer_types": ["hash_moe", "moe", "moe"],
            "layer_types": ["sliding_attention", "compressed_sparse_attention", "heavily_compressed_attention"],
            "sliding_window": 16,
            "hc_mult": 2,
            "o_groups": 2,
            "o_lora_rank": 8,
            "partial_rotary_factor": 0.5,
        },
    ),
    Family("minimax_m2", "MiniMax-M2", {**_LOCAL, "head_dim": 8}),
    Family(
        "minimax_m3_vl_text",
        "MiniMax-M3",
        {
            **_LOCAL,
            "head_dim": 8,
            "dense_intermediate_size": D_FF,
            "shared_intermediate_size": 24,
            "routed_scaling_factor": 2.0,
            "rotary_dim": 4,
            "index_n_heads": 2,
            "index_head_dim": 8,
        },
    ),
    Family(
        "cohere2_moe",
        "Command A MoE",
        {**_MOE, **_WINDOW, "num_shared_experts": 1, "shared_expert_combination_strategy": "average"},
    ),
    Family(
        "lfm2_moe",
        "LFM2 MoE",
        {**_MOE, "num_dense_layers": 1, "layer_types": ["conv", "full_attention", "conv"]},
    ),
    Family(
        "kimi_linear",
        "Kimi-Linear",
        {
            **_LOCAL,
            **{name: value for name, value in _DEEPSEEK.items() if name not in {"n_routed_experts", "q_lora_rank"}},
            "n_group": 1,
            "linear_head_dim": 8,
            "linear_num_heads": 4,
            "layer_types": ["linear_attention", "linear_attention", "full_attention"],
            "mlp_layer_types": ["dense", "sparse", "sparse"],
        },
    ),
    Family("mistral4", "Mistral Small 4", {**_DEEPSEEK, "first_k_dense_replace": 1}),
    Family("llama4_text", "Llama 4", {**_LOCAL, "head_dim": 8, "intermediate_size_mlp": D_FF}),
    Family(
        "gemma4_text",
        "Gemma 4 MoE",
        {**_GEMMA_4, "enable_moe_block": True, "num_experts": 6, "top_k_experts": 2, "moe_intermediate_size": 16},
    ),
)

_MULTIMODAL = (
    Family(
        "gemma3", "Gemma 3 (multimodal)", {"text_config": _WINDOW, "vision_config": _VISION, "mm_tokens_per_image": 4}
    ),
    Family(
        "qwen2_5_vl",
        "Qwen 2.5-VL",
        {
            "text_config": {"rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4}},
            "vision_config": {
                "depth": 1,
                "hidden_size": 16,
                "num_heads": 2,
                "out_hidden_size": 32,
                "intermediate_size": 16,
            },
        },
    ),
    Family(
        "qwen3_vl",
        "Qwen 3-VL",
        {
            "text_config": {
                "head_dim": 8,
                "rope_parameters": {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 1e4},
            },
            "vision_config": {
                "depth": 1,
                "hidden_size": 16,
                "num_heads": 2,
                "out_hidden_size": 32,
                "intermediate_size": 16,
                "deepstack_visual_indexes": [0],
            },
        },
    ),
    Family("mistral3", "Mistral Small 3", {"text_config": {"model_type": "mistral"}, "vision_config": _VISION}),
    Family(
        "mistral_large4",
        "Mistral Large 4",
        {
            "text_config": {**_DEEPSEEK, **_DSA, "head_dim": 4, "mlp_layer_types": ["dense", "sparse", "sparse"]},
            "vision_config": _VISION,
        },
    ),
)

_REFUSED = (
    Family("mamba", "Mamba, Falcon-Mamba"),
    Family("rwkv", "RWKV", {"attention_hidden_size": 32}),
    Family("jetmoe", "JetMoE", {"kv_channels": 8}),
    Family(
        "inkling_text",
        "Inkling",
        {
            "head_dim": 8,
            "swa_num_attention_heads": 4,
            "swa_num_key_value_heads": 2,
            "swa_head_dim": 8,
            "n_routed_experts": 6,
            "moe_intermediate_size": 16,
            "mlp_layer_types": ["sparse"] * 3,
        },
    ),
    Family("bert", "BERT and its relatives as decoders", {"is_decoder": True}),
)


def _is_known(family: Family) -> bool:
    if family.architecture == "deepseek_v4":
        # the first versions with this family cannot repeat the rows of its caches
        return "reorder_cache" in vars(DeepseekV4HCACache)
    return family.architecture in CONFIG_MAPPING


def _known(families: tuple[Family, ...]) -> tuple[Family, ...]:
    return tuple(family for family in families if _is_known(family))


FAMILIES = _known(_DECODERS)
"""Families of language models."""

MIXTURES = tuple(
    family for family in FAMILIES if family.options.keys() & {"num_experts", "num_local_experts", "n_routed_experts"}
)
"""Those with routed experts."""

MULTIMODAL = _known(_MULTIMODAL)
"""Multimodal models, of which the text decoder is used."""

REFUSED = _known(_REFUSED)
"""Families of which nothing is recorded."""

ABSENT = tuple(family for family in (*_DECODERS, *_MULTIMODAL, *_REFUSED) if not _is_known(family))
"""Families that the installed version of transformers does not have, or cannot run with several candidates."""


@cache
def family_model(name: str) -> PreTrainedModel:
    """The tiny model of a family, shared by tests that leave it as it is."""
    family = next(family for family in (*FAMILIES, *MULTIMODAL) if family.name == name)
    if "text_config" not in family.options:
        model = make_model(family.architecture, **family.options)
        for name, buffer in model.named_buffers():
            if name.endswith("tid2eid"):
                # a checkpoint brings DeepSeek V4's table of experts by token
                buffer.copy_(torch.stack([torch.arange(len(buffer)), torch.arange(len(buffer)) + 1], 1) % 6)
        return model
    known = AutoConfig.for_model(family.architecture)
    text = {**tiny_text_config(known.get_text_config(decoder=True)), **family.options["text_config"]}
    text.setdefault("model_type", known.get_text_config(decoder=True).model_type)
    config = AutoConfig.for_model(family.architecture, **{**family.options, "text_config": text})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32)
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.data.mul_(3)
    model.generation_config.eos_token_id = model.generation_config.pad_token_id = EOS
    return model.eval().requires_grad_(False)


def tiny_text_config(known: PreTrainedConfig) -> dict[str, Any]:
    """The parameters of `nad_agents.testing.tiny_model` that a text config has."""
    size = {
        "hidden_size": 32,
        "intermediate_size": D_FF,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "vocab_size": 257,
        "bos_token_id": None,
        "eos_token_id": EOS,
        "pad_token_id": EOS,
    }
    return {name: value for name, value in size.items() if hasattr(known, name)}
