"""Int8 linear layers for CPUs, whose products are sums of bytes.

Weights get one scale per output and inputs one scale per token ("W8A8 dynamic"): q = round(x / s), s = max|x| / 127. A
token's result depends on that token alone and integer sums are exact, so these layers give a candidate the same result
whatever else is in the batch. Norms, embeddings, attention and the KV cache stay float32.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from nad_agents.exceptions import ConfigurationError
from nad_agents.models.freed_memory import return_freed_memory

__all__ = ["Int8Linear", "check_int8_support", "quantize_linear_layers"]

_LEVELS = 127
_ZERO = 128
"""The kernels take unsigned inputs; this value stands for 0."""

_KERNELS = ("avx512_vnni", "avx_vnni", "avx_vnni_int8", "amx_int8")
"""CPU features that sum products of bytes without overflow; older instructions saturate."""


class Int8Linear(nn.Module):
    """An `nn.Linear` with int8 weights, whose inputs are quantized token by token.

    Args:
        weight: Float [out, in].
        bias: Float [out].
        shared: Whether another module uses the weight too (a tied embedding), so that it is no parameter of this one.

    Attributes:
        weight: Int8 [out, in].
        scale: Float32 [out]; the layer multiplies by weight * scale[:, None].
        in_features: Width of the input.
        out_features: Width of the output.
    """

    weight: torch.Tensor
    scale: torch.Tensor
    bias: torch.Tensor | None

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None, *, shared: bool = False) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        # the kernels require contiguous memory, and a Conv1D's weight is transposed
        weight = weight.detach().float().contiguous()
        scale = (weight.abs().amax(1) / _LEVELS).clamp_min(torch.finfo(torch.float32).tiny)
        whole = (weight / scale[:, None]).round().clamp_(-_LEVELS, _LEVELS).to(torch.int8)
        if shared:
            self.register_buffer("weight", whole, persistent=False)
        else:
            self.weight = nn.Parameter(whole, requires_grad=False)
        self.register_buffer("scale", scale, persistent=False)
        self.bias = None if bias is None else nn.Parameter(bias.detach().float(), requires_grad=False)
        # opaque layout of the kernels, which cannot be copied, moved or saved as other tensors can: not a buffer
        self._packed = torch.ops.onednn.qlinear_prepack(whole, None)
        self._zero_points = torch.zeros(self.out_features, dtype=torch.int32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Multiply [..., in] by the weights; returns float32 [..., out]."""
        rows = x.reshape(-1, self.in_features)
        # 1. each token on its own scale
        scale = (rows.abs().amax(1, keepdim=True) / _LEVELS).clamp_min_(torch.finfo(torch.float32).tiny)
        whole = (rows / scale).round_().add_(_ZERO).to(torch.uint8)
        # 2. integer products, times the weights' scales
        product: torch.Tensor = torch.ops.onednn.qlinear_pointwise(
            whole, 1.0, _ZERO, self._packed, self.scale, self._zero_points, None, 1.0, 0, torch.float32, "none", [], ""
        )
        # 3. times the tokens' scales
        product.mul_(scale)
        if self.bias is not None:
            product.add_(self.bias)
        return product.view(*x.shape[:-1], self.out_features)

    def extra_repr(self) -> str:
        """Describe the layer's shape, as `nn.Module` prints it."""
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


def check_int8_support(device: torch.device) -> None:
    """Check that int8 weights work on a device.

    Raises:
        ConfigurationError: The device is not a CPU, or the CPU lacks byte products that do not overflow.
    """
    if device.type != "cpu":
        msg = f"dtype='int8' runs on CPUs, and the device is {device.type}; use 'auto' there, or device='cpu'"
        raise ConfigurationError(msg)
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    onednn: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call] # torch leaves it untyped
    if not onednn or not any(capabilities.get(name) for name in _KERNELS):
        msg = "dtype='int8' needs a CPU with VNNI or AMX and torch 2.10 or later with oneDNN; use dtype='float32'"
        raise ConfigurationError(msg)


def quantize_linear_layers(model: PreTrainedModel) -> None:
    """Replace every linear layer of a model, the output embedding included, by an `Int8Linear`, in place."""
    tied = getattr(model.get_input_embeddings(), "weight", None)
    # exact types only, since a subclass may do more than multiply; names only, so that each layer is freed at once
    modules = model.named_modules(remove_duplicate=False)
    names = [name for name, module in modules if type(module) in (nn.Linear, Conv1D)]
    for name in names:
        linear: Any = model.get_submodule(name)
        weight = linear.weight.T if isinstance(linear, Conv1D) else linear.weight
        model.set_submodule(name, Int8Linear(weight, linear.bias, shared=linear.weight is tied))
        del linear, weight
        return_freed_memory()
