"""Read the weight of a linear layer as a matrix of floats, however the layer stores it.

The layers of quantization packages differ in names and layouts, and most installations lack most of these packages. So
a layer is recognized by its attributes, and the package that made the layer dequantizes it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from nad_agents.models.int8 import Int8Linear

__all__ = ["dense_weight", "weight_format"]

_FLOATS = (torch.float32, torch.bfloat16, torch.float16)


def weight_format(module: nn.Module) -> str:
    """Return how a linear layer stores its weight.

    Args:
        module: A linear layer.

    Returns:
        A type such as "bfloat16" for a plain matrix, else a name such as "bitsandbytes 4-bit"; "unknown" for a layer
        that `dense_weight` cannot read.
    """
    layer: Any = module
    if _is_lora(layer):
        return f"{weight_format(layer.base_layer)} with LoRA"
    weight: Any = getattr(layer, "weight", None)
    if _has_tensor_subclass(layer):
        return type(weight).__module__.split(".")[0] + " " + type(weight).__name__
    if _is_plain(weight):
        return str(weight.dtype).removeprefix("torch.")
    return next((name for name, matches, _ in _FORMATS if matches(layer)), "unknown")


def dense_weight(module: nn.Module) -> torch.Tensor | None:
    """Return the weight that a linear layer multiplies by, as floats.

    Args:
        module: A linear layer of torch, transformers, PEFT, or a quantization package.

    Returns:
        [outputs, inputs]; the layer's own memory if it is stored in this form, and None if it cannot be read.
    """
    layer: Any = module
    if _is_lora(layer):
        return _merged_lora(layer)
    weight: Any = getattr(layer, "weight", None)
    if _is_plain(weight):
        plain: torch.Tensor = weight.detach()
        return plain.T if isinstance(module, Conv1D) else plain
    read = next((read for _, matches, read in _FORMATS if matches(layer)), None)
    if read is None:
        return None
    try:
        with torch.no_grad():
            return read(layer).detach()
    except (NotImplementedError, RuntimeError):  # some kernels keep the weights in their own order
        return None


def _is_plain(weight: Any) -> bool:
    return type(weight) in {torch.Tensor, nn.Parameter} and weight.dtype in _FLOATS and weight.dim() == 2


def _is_lora(layer: Any) -> bool:
    return hasattr(layer, "base_layer") and hasattr(layer, "lora_A")


def _merged_lora(layer: Any) -> torch.Tensor | None:
    """Return the base weight plus the active PEFT adapters' weights; None if an adapter does more than add."""
    base = dense_weight(layer.base_layer)
    active = [name for name in layer.active_adapters if name in layer.lora_A]
    # DoRA rescales the sum, and other variants compute it in another way
    if base is None or any(name in getattr(layer, "lora_variant", {}) for name in active):
        return None
    if layer.merged or layer.disable_adapters:
        return base
    with torch.no_grad():
        for name in active:
            delta = layer.get_delta_weight(name).detach()
            base = base + (delta.T if isinstance(layer.base_layer, Conv1D) else delta).to(base.dtype)
    return base


def _int8(layer: Any) -> torch.Tensor:
    dense: torch.Tensor = layer.weight * layer.scale[:, None]
    return dense


def _bitsandbytes_4_bit(layer: Any) -> torch.Tensor:
    from bitsandbytes import functional

    packed, state = layer.weight.data, layer.weight.quant_state
    if getattr(state, "packing_format_for_cpu", False):
        # on CPUs with bfloat16 the first call reorders the weights permanently
        state = copy.copy(state)
        state.absmax, state.original_nested = state.absmax.T.reshape(-1).float(), False
        packed, state = functional._convert_weight_packed_for_cpu_inverse(packed, state)
    dense: torch.Tensor = functional.dequantize_4bit(packed, state)
    return dense


def _bitsandbytes_8_bit(layer: Any) -> torch.Tensor:
    # the scales move from the weight to the layer's state at the first call
    scale = layer.weight.SCB if getattr(layer.weight, "SCB", None) is not None else layer.state.SCB
    dense: torch.Tensor = layer.weight.data.float() * (scale.float()[:, None] / 127)
    return dense


def _tensor_subclass(layer: Any) -> torch.Tensor:
    dense: torch.Tensor = layer.weight.dequantize()
    return dense


def _weight_is(name: str) -> Callable[[Any], bool]:
    return lambda layer: type(getattr(layer, "weight", None)).__name__ == name


def _has_tensor_subclass(layer: Any) -> bool:
    """Return whether the weight is a tensor of torchao or optimum-quanto, which can dequantize itself."""
    kind = type(getattr(layer, "weight", None))
    return kind.__module__.split(".")[0] in {"torchao", "optimum"} and hasattr(kind, "dequantize")


def _compressed_tensors(layer: Any) -> torch.Tensor:
    from compressed_tensors.compressors import BaseCompressor

    scheme = layer.quantization_scheme
    stored = {name: value.data for name, value in [*layer.named_parameters(), *layer.named_buffers()]}
    dense: torch.Tensor = BaseCompressor.get_value_from_registry(scheme.format).decompress(stored, scheme)["weight"]
    return dense


def _fine_grained_fp8(layer: Any) -> torch.Tensor:
    """Multiply each block of the weight [outputs, inputs] by its own scale."""
    weight, scale = layer.weight.data.float(), layer.weight_scale_inv.data.float()
    if layer.block_size is not None:
        rows, columns = layer.block_size
        scale = scale.repeat_interleave(rows, 0)[: weight.shape[0]]
        scale = scale.repeat_interleave(columns, 1)[:, : weight.shape[1]]
    dense: torch.Tensor = weight * scale
    return dense


def _gptq(layer: Any) -> torch.Tensor:
    weight: torch.Tensor = layer.dequantize_weight()
    return weight.T


def _awq(layer: Any) -> torch.Tensor:
    """Unpack eight 4-bit numbers from every int32 [inputs, outputs / 8], undoing AWQ's order."""
    order = torch.tensor([0, 4, 1, 5, 2, 6, 3, 7], device=layer.qweight.device)

    def unpack(packed: torch.Tensor) -> torch.Tensor:
        return ((packed[..., None] >> (order * 4)) & 0xF).flatten(1)

    group = layer.in_features // layer.scales.shape[0]
    zeros = unpack(layer.qzeros).repeat_interleave(group, 0)
    dense: torch.Tensor = (unpack(layer.qweight) - zeros) * layer.scales.repeat_interleave(group, 0)
    return dense.T


def _is_awq(layer: Any) -> bool:
    """Return whether a layer has AWQ's general layout; kernels of some GPUs repack the numbers."""
    packed = getattr(layer, "qweight", None)
    scales = getattr(layer, "scales", None)
    if not isinstance(packed, torch.Tensor) or not isinstance(scales, torch.Tensor):
        return False
    layout = (layer.in_features, layer.out_features // 8)
    return packed.dtype == torch.int32 and tuple(packed.shape) == layout and scales.shape[1] == layer.out_features


def _hqq(layer: Any) -> torch.Tensor:
    dense: torch.Tensor = layer.dequantize()
    return dense


_FORMATS: tuple[tuple[str, Callable[[Any], bool], Callable[[Any], torch.Tensor]], ...] = (
    ("int8", lambda layer: isinstance(layer, Int8Linear), _int8),
    ("bitsandbytes 4-bit", _weight_is("Params4bit"), _bitsandbytes_4_bit),
    ("bitsandbytes 8-bit", _weight_is("Int8Params"), _bitsandbytes_8_bit),
    ("tensor subclass", _has_tensor_subclass, _tensor_subclass),
    ("compressed-tensors", lambda layer: hasattr(layer, "quantization_scheme"), _compressed_tensors),
    ("fine-grained fp8", lambda layer: hasattr(layer, "weight_scale_inv"), _fine_grained_fp8),
    ("GPTQ", lambda layer: hasattr(layer, "qweight") and hasattr(layer, "dequantize_weight"), _gptq),
    ("AWQ", _is_awq, _awq),
    ("HQQ", lambda layer: hasattr(layer, "W_q") and hasattr(layer, "dequantize"), _hqq),
)
"""Name of each format, the test that recognizes its layers, and the function that reads them, in order of priority."""
