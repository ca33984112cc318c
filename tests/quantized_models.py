"""Folders of tiny models with quantized weights, one per method whose package is installed."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.integrations.finegrained_fp8 import FP8Experts

from tests.tiny_models import make_model, save_model

SIZES = {"hidden_size": 64, "intermediate_size": 128}
MIXTURE = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 64,
    "shared_expert_intermediate_size": 128,
}
BLOCK = 32


def plain_model(*, mixture: bool = False) -> PreTrainedModel:
    """A model to be quantized: dense, or with routed experts beside a shared one."""
    return make_model("qwen2_moe", **SIZES, **MIXTURE) if mixture else make_model("llama", **SIZES)


def _save(model: PreTrainedModel, folder: Path) -> None:
    save_model(model, folder)


def _rewrite(folder: Path, weights: dict[str, torch.Tensor], **config: Any) -> None:
    safetensors.torch.save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))


def _quantized_while_read(folder: Path, model: PreTrainedModel, config: Any) -> None:
    _save(model, folder / "plain")
    options = {"quantization_config": config, "dtype": torch.float32}
    _save(AutoModelForCausalLM.from_pretrained(folder / "plain", **options), folder)


def _bitsandbytes(folder: Path, model: PreTrainedModel, **options: Any) -> None:
    from transformers import BitsAndBytesConfig

    # its kernel of four bits for CPUs takes no layer with one output
    skipped = ["lm_head", "shared_expert_gate"]
    _quantized_while_read(folder, model, BitsAndBytesConfig(**options, llm_int8_skip_modules=skipped))


def _torchao(folder: Path, model: PreTrainedModel, method: str, **options: Any) -> None:
    from torchao import quantization
    from torchao.quantization.granularity import PerGroup
    from transformers import TorchAoConfig

    if "weight_dtype" in options:
        options["granularity"] = PerGroup(BLOCK)
    _quantized_while_read(folder, model, TorchAoConfig(getattr(quantization, method)(**options)))


def _compressed_tensors(
    folder: Path, model: PreTrainedModel, weights: dict[str, Any], inputs: dict[str, Any] | None = None
) -> None:
    """As LLM Compressor publishes models, with each expert's matrices by themselves."""
    from compressed_tensors.compressors import ModelCompressor
    from compressed_tensors.quantization import QuantizationArgs, QuantizationConfig, apply_quantization_config

    _save(model, folder)
    stored = safetensors.torch.load_file(folder / "model.safetensors")
    layers = _linear_layers(stored)
    group = {"targets": ["Linear"], "weights": weights, "input_activations": inputs}
    apply_quantization_config(
        layers, QuantizationConfig(config_groups={"all": group}, quantization_status="compressed")
    )
    args = QuantizationArgs(**weights)
    levels = 448 if args.type == "float" else 2 ** (args.num_bits - 1) - 1
    for module in layers.modules():
        if hasattr(module, "quantization_scheme"):
            rows = module.weight.data.view(module.out_features, -1, args.group_size or module.in_features)
            module.weight_scale.data = rows.abs().amax(-1).view(module.weight_scale.shape) / levels
    compressor = ModelCompressor.from_pretrained_model(layers)
    compressor.compress_model(layers)
    compressor.update_config(folder)
    method = json.loads((folder / "config.json").read_text())["quantization_config"]
    method["ignore"] = ["lm_head", "re:.*gate$"]
    others = {name: weight for name, weight in stored.items() if not _is_quantized(name)}
    _rewrite(folder, {**others, **layers.state_dict()}, quantization_config=method)


def _is_quantized(name: str) -> bool:
    return name.endswith("_proj.weight")


def _linear_layers(weights: dict[str, torch.Tensor]) -> nn.Module:
    """The matrices of a checkpoint that are quantized, as layers of the same names."""
    root = nn.Module()
    for name, weight in weights.items():
        if _is_quantized(name):
            *path, last, _ = name.split(".")
            parent = root
            for part in path:
                if not hasattr(parent, part):
                    parent.add_module(part, nn.Module())
                parent = parent.get_submodule(part)
            layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
            layer.weight.data = weight
            parent.add_module(last, layer)
    return root


def save_fp8(folder: Path, model: PreTrainedModel) -> None:
    """As DeepSeek and Qwen publish their models: float8 with one factor per block."""
    _save(model, folder)
    stored = {}
    for name, weight in safetensors.torch.load_file(folder / "model.safetensors").items():
        if _is_quantized(name):
            blocks = weight.view(weight.shape[0] // BLOCK, BLOCK, -1, BLOCK)
            scale = blocks.abs().amax((1, 3)) / 448
            stored[name] = (blocks / scale[:, None, :, None]).view(weight.shape).to(torch.float8_e4m3fn)
            stored[f"{name}_scale_inv"] = scale
        else:
            stored[name] = weight
    method = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [BLOCK, BLOCK]}
    _rewrite(folder, stored, quantization_config=method)


def save_mxfp4(folder: Path) -> None:
    """Save gpt-oss as OpenAI publishes it, its experts in blocks of 32 four-bit floats with one exponent per block."""
    options = {"num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 16, "hidden_size": 64}
    model = make_model("gpt_oss", **options, intermediate_size=64)
    _save(model, folder)
    generator, stored = torch.Generator().manual_seed(0), {}
    for name, weight in safetensors.torch.load_file(folder / "model.safetensors").items():
        if name.endswith(("experts.gate_up_proj", "experts.down_proj")):
            experts, inputs, outputs = weight.shape
            shape = (experts, outputs, inputs // 32)
            stored[f"{name}_blocks"] = torch.randint(0, 256, (*shape, 16), generator=generator, dtype=torch.uint8)
            stored[f"{name}_scales"] = torch.randint(122, 126, shape, generator=generator, dtype=torch.uint8)
        else:
            stored[name] = weight
    _rewrite(folder, stored, quantization_config={"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]})


def mxfp4_weight(blocks: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """The matrices [experts, inputs, outputs] of blocks, by the definition of the format."""
    magnitudes = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])
    values = torch.cat([magnitudes, -magnitudes])
    # the lower half of a byte is the first of its two numbers
    numbers = torch.stack([values[(blocks & 15).long()], values[(blocks >> 4).long()]], dim=-1).flatten(-2)
    return (numbers * torch.exp2(scales[..., None].float() - 127)).flatten(-2).transpose(1, 2)


_PER_TOKEN = {"num_bits": 8, "strategy": "token", "dynamic": True}

_METHODS: dict[str, tuple[str, Callable[[Path, PreTrainedModel], None]]] = {
    "fp8": ("accelerate", save_fp8),
    "compressed-tensors w8a8": (
        "compressed_tensors",
        partial(_compressed_tensors, weights={"num_bits": 8, "strategy": "channel"}, inputs=_PER_TOKEN),
    ),
    "compressed-tensors fp8": (
        "compressed_tensors",
        partial(_compressed_tensors, weights={"num_bits": 8, "type": "float", "strategy": "channel"}),
    ),
    "compressed-tensors w4a16": (
        "compressed_tensors",
        partial(_compressed_tensors, weights={"num_bits": 4, "strategy": "group", "group_size": BLOCK}),
    ),
    "bitsandbytes nf4": ("bitsandbytes", partial(_bitsandbytes, load_in_4bit=True, bnb_4bit_quant_type="nf4")),
    "bitsandbytes nf4 twice": (
        "bitsandbytes",
        partial(_bitsandbytes, load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True),
    ),
    "bitsandbytes int8": ("bitsandbytes", partial(_bitsandbytes, load_in_8bit=True)),
    "torchao int8": ("torchao", partial(_torchao, method="Int8WeightOnlyConfig")),
    "torchao w8a8": ("torchao", partial(_torchao, method="Int8DynamicActivationInt8WeightConfig")),
    "torchao int4": ("torchao", partial(_torchao, method="IntxWeightOnlyConfig", weight_dtype=torch.int4)),
}


def _reads_fp8() -> bool:
    """Whether transformers loads fp8 models that name no experts implementation: some versions look it up first."""
    overrides = getattr(FP8Experts, "_impl_tp_layer_overrides", None)
    return overrides is None or None in overrides


METHODS = {
    name: make
    for name, (package, make) in _METHODS.items()
    if find_spec(package) is not None and (name != "fp8" or _reads_fp8())
}
"""Functions that save a model with quantized weights, by method; `pip install bitsandbytes torchao` adds more."""
