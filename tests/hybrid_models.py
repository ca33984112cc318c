"""Random models whose layers are not all alike: recurrent ones, convolutions, shared keys, heads of several sizes."""

from functools import cache
from typing import Any

from transformers import PreTrainedModel

from tests.tiny_models import D_FF, make_model

_LINEAR = {
    "num_hidden_layers": 4,
    "head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
_EXPERTS = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 24,
    "shared_expert_intermediate_size": 24,
}
_MAMBA = {
    "mamba_n_heads": 4,
    "mamba_d_head": 16,
    "mamba_d_state": 8,
    "mamba_n_groups": 1,
    "mamba_expand": 2,
    "mamba_chunk_size": 8,
}
_WINDOWS = ["sliding_attention", "full_attention"] * 2
_SHARED = {
    "num_hidden_layers": 4,
    "layer_types": _WINDOWS,
    "sliding_window": 16,
    "head_dim": 8,
    "num_kv_shared_layers": 2,
    "hidden_size_per_layer_input": 8,
    "vocab_size_per_layer_input": 264,
}

HYBRIDS: dict[str, dict[str, Any]] = {
    "qwen3_5_text": _LINEAR,
    "qwen3_5_moe_text": {**_LINEAR, **_EXPERTS},
    "qwen3_next": {**_LINEAR, **_EXPERTS},
    "granitemoehybrid": {
        **_MAMBA,
        "layer_types": ["mamba", "attention", "mamba"],
        "num_local_experts": 4,
        "shared_intermediate_size": D_FF,
    },
    "lfm2": {"layer_types": ["conv", "full_attention", "conv"], "block_auto_adjust_ff_dim": False},
    "nemotron_h": {
        "layers_block_type": ["mamba", "attention", "mlp", "mamba", "moe"],
        "mamba_num_heads": 4,
        "mamba_head_dim": 16,
        "ssm_state_size": 8,
        "n_groups": 1,
        "chunk_size": 8,
        "head_dim": 8,
        "n_routed_experts": 4,
        "moe_intermediate_size": 24,
        "moe_shared_expert_intermediate_size": 24,
    },
    "falcon_h1": {**_MAMBA, "mamba_d_ssm": 64},
    "jamba": {
        "num_hidden_layers": 4,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "num_experts": 4,
        "mamba_d_state": 8,
        "use_mamba_kernels": False,
    },
    "bamba": {**_MAMBA, "attn_layer_indices": [1]},
    "zamba2": {
        "num_hidden_layers": 4,
        "layers_block_type": ["mamba", "hybrid", "mamba", "hybrid"],
        "mamba_d_state": 8,
        "n_mamba_heads": 4,
        "mamba_headdim": 16,
        "chunk_size": 8,
        "use_mamba_kernels": False,
    },
    "gemma3n_text": {
        **_SHARED,
        "intermediate_size": D_FF,
        "laurel_rank": 4,
        "activation_sparsity_pattern": [0.0] * 4,
        "altup_num_inputs": 2,
    },
    "gemma4_text": {**_SHARED, "global_head_dim": 16},
}


@cache
def hybrid_model(family: str) -> PreTrainedModel:
    """A random model of a hybrid family, shared by tests that leave it as it is."""
    return make_model(family, **HYBRIDS[family])
