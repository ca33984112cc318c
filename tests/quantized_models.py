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
from transformers import AutoModelForCausalLM, PreTrainedModel

from tests.tiny_models import byte_tokenizer, make_model

SIZES = {"hidden_size": 64, "intermediate_size": 128}
BLOCK = 32


def _plain() -> PreTrainedModel:
    return make_model("llama", **SIZES)


def _save(model: PreTrainedModel, folder: Path) -> None:
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)


def _quantized_while_read(folder: Path, config: Any) -> None:
    _save(_plain(), folder / "plain")
    options = {"quantization_config": config, "dtype": torch.float32}
    _save(AutoModelForCausalLM.from_pretrained(folder / "plain", **options), folder)


def _bitsandbytes(folder: Path, **options: Any) -> None:
    from transformers import BitsAndBytesConfig

    _quantized_while_read(folder, BitsAndBytesConfig(**options))


def _torchao(folder: Path, method: str, **options: Any) -> None:
    from torchao import quantization
    from torchao.quantization.granularity import PerGroup
    from transformers import TorchAoConfig

    if "weight_dtype" in options:
        options["granularity"] = PerGroup(BLOCK)
    _quantized_while_read(folder, TorchAoConfig(getattr(quantization, method)(**options)))


def _compressed_tensors(folder: Path, weights: dict[str, Any], inputs: dict[str, Any] | None = None) -> None:
    from compressed_tensors.compressors import ModelCompressor
    from compressed_tensors.quantization import QuantizationArgs, QuantizationConfig, apply_quantization_config

    model = _plain()
    group = {"targets": ["Linear"], "weights": weights, "input_activations": inputs}
    apply_quantization_config(
        model, QuantizationConfig(config_groups={"all": group}, ignore=["lm_head"], quantization_status="compressed")
    )
    args = QuantizationArgs(**weights)
    levels = 448 if args.type == "float" else 2 ** (args.num_bits - 1) - 1
    for module in model.modules():
        if hasattr(module, "quantization_scheme"):
            rows = module.weight.data.view(module.out_features, -1, args.group_size or module.in_features)
            module.weight_scale.data = rows.abs().amax(-1).view(module.weight_scale.shape) / levels
    compressor = ModelCompressor.from_pretrained_model(model)
    compressor.compress_model(model)
    _save(model, folder)
    compressor.update_config(folder)


def _fp8(folder: Path) -> None:
    """As DeepSeek and Qwen publish their models: float8 with one factor per block."""
    _save(_plain(), folder)
    stored = {}
    for name, weight in safetensors.torch.load_file(folder / "model.safetensors").items():
        if name.endswith("_proj.weight"):
            blocks = weight.view(weight.shape[0] // BLOCK, BLOCK, -1, BLOCK)
            scale = blocks.abs().amax((1, 3)) / 448
            stored[name] = (blocks / scale[:, None, :, None]).view(weight.shape).to(torch.float8_e4m3fn)
            stored[f"{name}_scale_inv"] = scale
        else:
            stored[name] = weight
    safetensors.torch.save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    method = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [BLOCK, BLOCK]}
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"quantization_config": method}))


_PER_TOKEN = {"num_bits": 8, "strategy": "token", "dynamic": True}

_METHODS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "fp8": ("accelerate", _fp8),
    "compressed-tensors w8a8": (
        "compressed_tensors",
        partial(_compressed_tensors, weights={"num_bits": 8, "strategy": "channel"}, inputs=_PER_TOKEN),
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

METHODS = {name: make for name, (package, make) in _METHODS.items() if find_spec(package) is not None}
"""Makers of a folder by method; `pip install bitsandbytes torchao` adds those that the development tools leave out."""
