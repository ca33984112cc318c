"""Tiny GGUF files of every architecture that is read: the converted model answers as the original."""

from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from nad_agents.exceptions import UnsupportedModelError
from nad_agents.models import describe_cache, load_model
from tests import tiny_gguf

BASE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
THETA = 50000.0


def rope(**parameters: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": "default", "rope_theta": THETA, **parameters}}


KEYS = {"feed_forward_length": 48, "attention__head_count_kv": 2, "rope__freq_base": THETA}
RMS = {**KEYS, "attention__layer_norm_rms_epsilon": 1e-5, "rope__dimension_count": 8}
NORM = {**KEYS, "attention__layer_norm_epsilon": 1e-6}
HEADS_OF_12 = {"attention__key_length": 12, "attention__value_length": 12, "rope__dimension_count": 12}
HEADS_OF_16 = {"attention__key_length": 16, "attention__value_length": 16, "rope__dimension_count": 16}
GEMMA = {"rms_norm_eps": 1e-5, "head_dim": 16, "sliding_window": 16, "query_pre_attn_scalar": 16}
GEMMA_KEYS = {**RMS, **HEADS_OF_16, "attention__sliding_window": 16}
EXPERTS = {"expert_count": 4, "expert_used_count": 2, "expert_feed_forward_length": 24}
MOE = {"rms_norm_eps": 1e-5, "moe_intermediate_size": 24, "num_experts": 4, "num_experts_per_tok": 2}
GPT_OSS = {
    "rms_norm_eps": 1e-6,
    "head_dim": 16,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "sliding_window": 16,
}
GPT_OSS_KEYS = {
    **RMS,
    **EXPERTS,
    **HEADS_OF_16,
    "attention__layer_norm_rms_epsilon": 1e-6,
    "attention__sliding_window": 16,
}
LINEAR_ATTENTION = {
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "full_attention_interval": 4,
}
LINEAR_ATTENTION_KEYS = {
    **RMS,
    "attention__key_length": 8,
    "attention__value_length": 8,
    "ssm__conv_kernel": 4,
    "ssm__state_size": 8,
    "ssm__group_count": 2,
    "ssm__time_step_rank": 4,
    "ssm__inner_size": 32,
    "full_attention_interval": 4,
    "rope__dimension_sections": [2, 1, 1, 0],
}

# what is set differs from the family's defaults wherever the file says it
_FAMILIES: dict[str, tuple[str, str, dict[str, Any], dict[str, Any]]] = {
    "llama": ("llama", "llama", {"rms_norm_eps": 1e-5, **rope()}, RMS),
    "mistral": ("mistral", "llama", {"rms_norm_eps": 1e-5, "sliding_window": None, "head_dim": 8, **rope()}, RMS),
    "qwen2": ("qwen2", "qwen2", {"rms_norm_eps": 1e-5, **rope()}, RMS),
    "qwen3": ("qwen3", "qwen3", {"rms_norm_eps": 1e-5, "head_dim": 12, **rope()}, {**RMS, **HEADS_OF_12}),
    "phi3 turning a part of each head": (
        "phi3",
        "phi3",
        {"rms_norm_eps": 1e-5, **rope(partial_rotary_factor=0.75)},
        {**RMS, "rope__dimension_count": 6},
    ),
    "phi3 with a window": (
        "phi3",
        "phi3",
        {"rms_norm_eps": 1e-5, "sliding_window": 16, **rope()},
        {**RMS, "attention__sliding_window": 16},
    ),
    "phi3 whose file says that there is no window": (
        "phi3",
        "phi3",
        {"rms_norm_eps": 1e-5, **rope()},
        {**RMS, "attention__sliding_window": 0},
    ),
    "gemma2": (
        "gemma2",
        "gemma2",
        {**GEMMA, "final_logit_softcapping": 3.0, "attn_logit_softcapping": 20.0, **rope()},
        {**GEMMA_KEYS, "attn_logit_softcapping": 20.0, "final_logit_softcapping": 3.0},
    ),
    "gemma3": (
        "gemma3_text",
        "gemma3",
        {**GEMMA, "num_hidden_layers": 7},
        {**GEMMA_KEYS, "rope__freq_base": 1e6},
    ),
    "stablelm": (
        "stablelm",
        "stablelm",
        {"layer_norm_eps": 1e-6, "use_qkv_bias": True, **rope(partial_rotary_factor=0.5)},
        {**NORM, "rope__dimension_count": 4},
    ),
    "starcoder2": ("starcoder2", "starcoder2", {"norm_epsilon": 1e-6, **rope()}, NORM),
    "nemotron": (
        "nemotron",
        "nemotron",
        {"norm_eps": 1e-6, "head_dim": 8, **rope(partial_rotary_factor=0.25)},
        {**NORM, "rope__dimension_count": 2},
    ),
    "falcon": (
        "falcon",
        "falcon",
        {"multi_query": True, "ffn_hidden_size": 48, "layer_norm_epsilon": 1e-6, **rope()},
        {**NORM, "attention__head_count_kv": 1},
    ),
    "gpt2": ("gpt2", "gpt2", {"n_inner": 48}, {"feed_forward_length": 48, "attention__layer_norm_epsilon": 1e-5}),
    "lfm2": (
        "lfm2",
        "lfm2",
        {
            "norm_eps": 1e-5,
            "layer_types": ["conv", "full_attention", "conv"],
            "block_auto_adjust_ff_dim": False,
            **rope(),
        },
        {**RMS, "attention__head_count_kv": [0, 2, 0], "shortconv__l_cache": 3},
    ),
    "qwen2_moe": (
        "qwen2_moe",
        "qwen2moe",
        {**MOE, "shared_expert_intermediate_size": 40, **rope()},
        {**RMS, **EXPERTS, "expert_shared_feed_forward_length": 40},
    ),
    "qwen3_moe": (
        "qwen3_moe",
        "qwen3moe",
        {**MOE, "head_dim": 12, "norm_topk_prob": True, **rope()},
        {**RMS, **EXPERTS, **HEADS_OF_12},
    ),
    "qwen3_5": (
        "qwen3_5_text",
        "qwen35",
        {
            **LINEAR_ATTENTION,
            "rms_norm_eps": 1e-5,
            "head_dim": 8,
            "num_hidden_layers": 4,
            **rope(mrope_section=[2, 1, 1], mrope_interleaved=True, partial_rotary_factor=1.0),
        },
        LINEAR_ATTENTION_KEYS,
    ),
    "qwen3_5_moe": (
        "qwen3_5_moe_text",
        "qwen35moe",
        {
            **LINEAR_ATTENTION,
            **MOE,
            "shared_expert_intermediate_size": 40,
            "head_dim": 8,
            "num_hidden_layers": 4,
            **rope(mrope_section=[2, 1, 1], mrope_interleaved=True, partial_rotary_factor=1.0),
        },
        {**LINEAR_ATTENTION_KEYS, **EXPERTS, "expert_shared_feed_forward_length": 40},
    ),
    "gpt-oss": (
        "gpt_oss",
        "gpt-oss",
        {
            **GPT_OSS,
            **rope(
                rope_type="yarn",
                factor=4.0,
                original_max_position_embeddings=64,
                beta_fast=16.0,
                beta_slow=2.0,
                truncate=False,
            ),
        },
        {
            **GPT_OSS_KEYS,
            "rope__scaling__type": "yarn",
            "rope__scaling__factor": 4.0,
            "rope__scaling__original_context_length": 64,
            "rope__scaling__yarn_beta_fast": 16.0,
            "rope__scaling__yarn_beta_slow": 2.0,
        },
    ),
    "gpt-oss without scaling": ("gpt_oss", "gpt-oss", {**GPT_OSS, **rope()}, GPT_OSS_KEYS),
    "linear scaling": (
        "llama",
        "llama",
        {"rms_norm_eps": 1e-5, **rope(rope_type="linear", factor=4.0)},
        {**RMS, "rope__scaling__type": "linear", "rope__scaling__factor": 4.0},
    ),
    "yarn": (
        "qwen2",
        "qwen2",
        {"rms_norm_eps": 1e-5, **rope(rope_type="yarn", factor=4.0, original_max_position_embeddings=64)},
        {
            **RMS,
            "rope__scaling__type": "yarn",
            "rope__scaling__factor": 4.0,
            "rope__scaling__original_context_length": 64,
        },
    ),
    "gemma3 with scaling": (
        "gemma3_text",
        "gemma3",
        {
            **GEMMA,
            "num_hidden_layers": 7,
            "rope_parameters": {
                "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
            },
        },
        {**GEMMA_KEYS, "rope__freq_base": 1e6, "rope__scaling__type": "linear", "rope__scaling__factor": 8.0},
    ),
}

FAMILIES = {name: family for name, family in _FAMILIES.items() if tiny_gguf.is_readable(*family[:2])}
UNREADABLE = [family for name, family in _FAMILIES.items() if name not in FAMILIES]


def original(model_type: str, architecture: str, options: dict[str, Any]) -> Any:
    """A random model whose norms and biases are not those of a new one."""
    vocabulary = len(tiny_gguf.tokens(architecture))
    config = AutoConfig.for_model(model_type, **{**BASE, "vocab_size": vocabulary, **options})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval().requires_grad_(False)
        for name, parameter in model.named_parameters():
            plain_norm = "norm" in name and architecture not in tiny_gguf.NORMS_PLUS_ONE
            parameter.copy_(torch.randn_like(parameter) * 0.2 + plain_norm)
    return model


def check_same_answers(path: Path, model: Any, length: int = 100) -> None:
    loaded = load_model(path, device="cpu", dtype="float32")
    # by default longer than the sliding windows and than the lengths before rescaling
    ids = torch.arange(2 * length).view(2, length) % (model.config.vocab_size - 4) + 4
    expected = model(ids).logits
    torch.testing.assert_close(loaded.model(ids).logits, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.filterwarnings("ignore:.*causal_conv1d.*")
@pytest.mark.parametrize(("model_type", "architecture", "options", "keys"), FAMILIES.values(), ids=FAMILIES)
def test_the_converted_model_answers_as_the_original(tmp_path, model_type, architecture, options, keys):
    model = original(model_type, architecture, options)
    tiny_gguf.write_model(tmp_path / "tiny.gguf", model, architecture, **keys)
    check_same_answers(tmp_path / "tiny.gguf", model)


def test_the_factors_of_llama_3(tmp_path):
    scaling = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
    model = original("llama", "llama", {"rms_norm_eps": 1e-5, **rope(rope_type="llama3", **scaling)})
    frequencies, _ = ROPE_INIT_FUNCTIONS["llama3"](model.config, "cpu")
    factors = THETA ** -(torch.arange(0, 8, 2) / 8) / frequencies
    assert factors.max() > 2
    tiny_gguf.write_model(tmp_path / "tiny.gguf", model, "llama", factors={"rope_freqs.weight": factors}, **RMS)
    check_same_answers(tmp_path / "tiny.gguf", model)


@pytest.mark.parametrize("length", [40, 100])
def test_the_short_and_long_factors_of_phi_3(tmp_path, length):
    short, long = torch.tensor([1.0, 1.5, 2.0]), torch.tensor([1.0, 3.0, 9.0])
    scaling = {"short_factor": short.tolist(), "long_factor": long.tolist(), "attention_factor": 1.5}
    options = {
        "rms_norm_eps": 1e-5,
        "original_max_position_embeddings": 64,
        **rope(rope_type="longrope", partial_rotary_factor=0.75, **scaling),
    }
    model = original("phi3", "phi3", options)
    tiny_gguf.write_model(
        tmp_path / "tiny.gguf",
        model,
        "phi3",
        factors={"rope_factors_short.weight": short, "rope_factors_long.weight": long},
        **RMS
        | {
            "rope__dimension_count": 6,
            "rope__scaling__original_context_length": 64,
            "rope__scaling__attn_factor": 1.5,
        },
    )
    check_same_answers(tmp_path / "tiny.gguf", model, length)


# Qwen 3.5's files hold exponentials of weights, which no 16 bits repeat
@pytest.mark.parametrize(
    ("model_type", "architecture", "options", "keys"),
    [family for family in FAMILIES.values() if family[1] in {"qwen2moe", "qwen3moe", "gpt-oss"}],
)
def test_experts_in_blocks_of_four_bits(tmp_path, model_type, architecture, options, keys):
    widths = {"intermediate_size": 64, "moe_intermediate_size": 64}
    model = original(model_type, architecture, {**options, **widths})
    for parameter in model.parameters():
        parameter.copy_(parameter.half())  # what is stored beside four bits
    kind = gguf.GGMLQuantizationType.MXFP4
    for experts in (layer.mlp.experts for layer in model.model.layers):
        for weight in (experts.gate_up_proj, experts.down_proj):
            rows = weight.transpose(1, 2) if experts.is_transposed else weight
            stored = gguf.dequantize(gguf.quantize(rows.contiguous().numpy(), kind), kind)
            rows.copy_(torch.from_numpy(stored))
    lengths = {"feed_forward_length": 64, "expert_feed_forward_length": 64}
    tiny_gguf.write_model(tmp_path / "tiny.gguf", model, architecture, experts=kind, **{**keys, **lengths})
    check_same_answers(tmp_path / "tiny.gguf", model)


class TestRefused:
    def test_falcon_with_several_heads_of_keys(self, tmp_path):
        options = {"new_decoder_architecture": True, "num_kv_heads": 2, "ffn_hidden_size": 48, **rope()}
        tiny_gguf.write_model(tmp_path / "tiny.gguf", original("falcon", "falcon", options), "falcon", **NORM)
        with pytest.raises(UnsupportedModelError, match="'falcon' with several heads of keys"):
            load_model(tmp_path / "tiny.gguf")

    def test_weights_without_a_place(self, tmp_path):
        """transformers leaves out what it does not know, such as the biases of attention."""
        model = original("llama", "llama", {"rms_norm_eps": 1e-5, "attention_bias": True, **rope()})
        tiny_gguf.write_model(tmp_path / "tiny.gguf", model, "llama", **RMS)
        with pytest.raises(UnsupportedModelError, match=r"has [\d,]+ weights and transformers' model"):
            load_model(tmp_path / "tiny.gguf")
        assert describe_cache() == ()

    def test_missing_weights(self, tmp_path):
        model = original("llama", "llama", {"rms_norm_eps": 1e-5, "num_hidden_layers": 2, **rope()})
        tiny_gguf.write_model(tmp_path / "tiny.gguf", model, "llama", **{**RMS, "feed_forward_length": 64})
        with pytest.raises(UnsupportedModelError, match=r"no weights of the right shape for 6 .*mlp\.down_proj"):
            load_model(tmp_path / "tiny.gguf")

    def test_unknown_scaling(self, tmp_path):
        model = original("llama", "llama", {"rms_norm_eps": 1e-5, **rope()})
        keys = {**RMS, "rope__scaling__type": "longrope", "rope__scaling__factor": 4.0}
        tiny_gguf.write_model(tmp_path / "tiny.gguf", model, "llama", **keys)
        with pytest.raises(UnsupportedModelError, match="'longrope'"):
            load_model(tmp_path / "tiny.gguf")

    @pytest.mark.parametrize(
        ("model_type", "architecture", "options", "keys"),
        [
            (
                "minimax_m2",
                "minimax-m2",
                {"head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2, **rope()},
                {**RMS, **EXPERTS},
            ),
            *UNREADABLE,
        ],
    )
    def test_architecture_that_is_not_read_whole(self, tmp_path, model_type, architecture, options, keys):
        model = original(model_type, architecture, options)
        tiny_gguf.write_model(tmp_path / "tiny.gguf", model, architecture, **keys)
        with pytest.raises(UnsupportedModelError, match=f"architecture '{architecture}'"):
            load_model(tmp_path / "tiny.gguf")
