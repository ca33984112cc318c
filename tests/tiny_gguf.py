"""Write a random model of transformers as a GGUF file, as llama.cpp's converter would."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from tests.tiny_models import byte_tokenizer

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
"""Kept at the start of the vocabulary: the padding and the ends of turns."""

SENTENCEPIECE = {"gemma2", "gemma3", "phi3"}
"""Architectures whose vocabularies are SentencePiece's."""

QWEN_3_5 = {"qwen35", "qwen35moe"}

NORMS_PLUS_ONE = {*QWEN_3_5, "gemma2", "gemma3", "nemotron"}
"""Architectures whose norms llama.cpp stores with one added."""


PRE_TOKENIZERS = {"starcoder2": "starcoder", "gpt2": "gpt-2"}


def is_readable(model_type: str, architecture: str) -> bool:
    """Whether the installed version of transformers reads the files of an architecture."""
    try:
        from transformers.integrations.ggml import GGUF_TO_FAST_CONVERTERS
    except ImportError:  # versions that do not choose the tokenizer by the architecture
        return True
    return bool({model_type, architecture} & GGUF_TO_FAST_CONVERTERS.keys())


def tokens(architecture: str = "llama") -> list[str]:
    if architecture in SENTENCEPIECE:
        return ["<pad>", "<s>", "</s>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *"▁abcdefgh"]
    letters = sorted(letter for letter in byte_tokenizer().get_vocab() if len(letter) == 1)
    return [*SPECIAL, *letters, "12", "123"]


def write_model(
    path: Path,
    model: PreTrainedModel,
    architecture: str,
    *,
    factors: Mapping[str, torch.Tensor] | None = None,
    experts: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32,
    quantization: str = "F32",
    **keys: Any,
) -> None:
    """Write a model's weights, its hyperparameters and a byte-level vocabulary, which is filled up to the model's.

    Args:
        path: The file to write.
        model: A model whose vocabulary is at least as long as `tokens`.
        architecture: llama.cpp's name of the architecture.
        factors: What the rotary frequencies are divided by, by the tensor's name.
        experts: Type of the experts' matrices.
        quantization: How other matrices are stored.
        **keys: Further hyperparameters, with two underscores for a dot.
    """
    config: Any = model.config
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_embedding_length(config.hidden_size)
    writer.add_head_count(config.num_attention_heads)
    for key, value in keys.items():
        name = f"{architecture}.{key.replace('__', '.')}"
        if isinstance(value, float):
            writer.add_float32(name, value)
        elif isinstance(value, str):
            writer.add_string(name, value)
        elif isinstance(value, list):
            writer.add_array(name, value)
        else:
            writer.add_uint32(name, value)
    vocabulary = tokens(architecture)
    vocabulary += [f"<filler {i}>" for i in range(config.vocab_size - len(vocabulary))]
    if architecture in SENTENCEPIECE:
        writer.add_tokenizer_model("llama")
        writer.add_tokenizer_pre("default")
        writer.add_token_list(vocabulary)
        writer.add_token_scores([0.0] * len(vocabulary))
        writer.add_token_types([3, 3, 3, 2] + [6] * 256 + [1] * (len(vocabulary) - 260))
        writer.add_unk_token_id(3)
    else:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(PRE_TOKENIZERS.get(architecture, "smollm"))
        writer.add_token_list(vocabulary)
        writer.add_token_types([3] * len(SPECIAL) + [1] * (len(vocabulary) - len(SPECIAL)))
        writer.add_token_merges(["1 2", "12 3"])
    writer.add_pad_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    for name, weight in [*_tensors(model, architecture), *(factors or {}).items()]:
        values = np.ascontiguousarray(weight.float().numpy())
        kind = gguf.GGMLQuantizationType[quantization if values.ndim == 2 else "F32"]
        if name.endswith("_exps.weight"):
            kind = experts
        writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _tensors(model: PreTrainedModel, architecture: str) -> Iterator[tuple[str, torch.Tensor]]:
    config: Any = model.config
    kind = next(kind for kind, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    names = gguf.get_tensor_name_map(kind, config.num_hidden_layers)
    transposed = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, Conv1D)}
    for own_name, parameter in model.named_parameters():
        name = own_name.replace(".dt_bias", ".dt_proj.bias")
        stem = name.removesuffix(".weight").removesuffix(".bias")
        suffix = name.removeprefix(stem)
        weight = parameter.detach()
        if architecture == "gpt-oss" and "experts." in name:
            layer, kind, stem = name.split(".")[2], "bias" if name.endswith("_bias") else "weight", name.split(".")[-1]
            weight = weight if kind == "bias" else weight.transpose(1, 2)
            parts = {"gate": weight[:, ::2], "up": weight[:, 1::2]} if stem.startswith("gate_up") else {"down": weight}
            yield from ((f"blk.{layer}.ffn_{part}_exps.{kind}", value) for part, value in parts.items())
            continue
        if name.endswith("experts.gate_up_proj"):
            layer = name.split(".")[2]
            gate, up = weight.chunk(2, dim=1)
            yield f"blk.{layer}.ffn_gate_exps.weight", gate
            yield f"blk.{layer}.ffn_up_exps.weight", up
            continue
        if name.endswith("experts.down_proj"):
            yield f"blk.{name.split('.')[2]}.ffn_down_exps.weight", weight
            continue
        target = names.get_name(stem)
        if target is None:
            raise ValueError(f"{architecture} has no name for {name}")
        if name in transposed:
            weight = weight.T
        if architecture == "llama" and target.endswith(("attn_q", "attn_k")):
            heads = config.num_attention_heads if target.endswith("attn_q") else config.num_key_value_heads
            weight = weight.view(heads, 2, -1, *weight.shape[1:]).transpose(1, 2).reshape(weight.shape)
        if (
            architecture in NORMS_PLUS_ONE
            and target.endswith("norm")
            and not target.endswith("ssm_norm")
            and suffix == ".weight"
        ):
            weight = weight + 1
        if architecture in QWEN_3_5:
            target, weight = _as_qwen35(target, weight, config)
        if target.endswith("shortconv.conv"):
            weight = weight.squeeze(1)
        if target.endswith("ffn_gate_inp_shexp"):
            weight = weight.squeeze(0)
        yield target + (".weight" if target.endswith("attn_sinks") else suffix), weight


def _as_qwen35(target: str, weight: torch.Tensor, config: Any) -> tuple[str, torch.Tensor]:
    """Put the value heads of linear attention into llama.cpp's order: all of the first of each key head, and so on."""
    keys = config.linear_num_key_heads
    per_key = config.linear_num_value_heads // keys

    def tiled(rows: torch.Tensor, width: int) -> torch.Tensor:
        return rows.view(keys, per_key, width, *rows.shape[1:]).transpose(0, 1).reshape(rows.shape)

    leaf, width = target.rsplit(".", 1)[-1], config.linear_value_head_dim
    first = 2 * config.linear_key_head_dim * keys
    if leaf == "ssm_a":
        return target, tiled(-weight.exp(), 1)
    if leaf in {"ssm_dt", "ssm_alpha", "ssm_beta"}:
        return target, tiled(weight, 1)
    if leaf == "attn_gate":
        return target, tiled(weight, width)
    if leaf in {"attn_qkv", "ssm_conv1d"}:
        weight = weight.squeeze(1) if leaf == "ssm_conv1d" else weight
        return target, torch.cat([weight[:first], tiled(weight[first:], width)])
    if leaf == "ssm_out":
        return target, tiled(weight.T, width).T
    return target, weight
