"""Check in one forward pass that the neurons found in a model account for the outputs of its feed-forward blocks.

The model reads a few tokens as it would without this library. Then two sums are compared for every module that owns a
feed-forward output. The sum of its down projections and experts must equal that output. The down projections of the
recorded activations, computed with the weights that the attribution score reads, must equal that sum.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from nad_agents.exceptions import UnsupportedModelError
from nad_agents.models.dense_weight import weight_format
from nad_agents.neurons.dense import DenseBlock
from nad_agents.neurons.experts import Llama4Experts, expert_activations
from nad_agents.neurons.layer_structure import Owner

__all__ = ["check_structure"]

_TOKENS = 3
"""Number of tokens that the model reads."""

_TOLERANCE = {torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 5e-2}
"""Largest permitted error of an output by its dtype, relative to its norm."""

_EXACT = {str(dtype).removeprefix("torch.") for dtype in _TOLERANCE}
"""Formats of weights whose layers round nothing more than the output."""

_QUANTIZED = 0.1
"""Largest permitted relative error for layers that round their inputs, such as int8 layers."""


@dataclass
class _Seen:
    """The recorded calls of one owner, one entry per call; `outputs` also has its inputs of the model's width."""

    outputs: list[tuple[torch.Tensor, list[torch.Tensor]]] = field(default_factory=list)
    dense: list[tuple[torch.Tensor, torch.Tensor]] = field(default_factory=list)
    gates: list[torch.Tensor] = field(default_factory=list)
    experts: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = field(default_factory=list)


def check_structure(model: nn.Module, owners: Sequence[Owner]) -> list[Owner]:
    """Check every owner of a feed-forward output.

    Args:
        model: The model, in eval mode.
        owners: The owners found in the model's layers.

    Returns:
        The owners, completed by the results of the forward pass: the constants by which the owner multiplies its parts,
        and whether a down projection really multiplies by its weight, which it does not if it has an adapter.

    Raises:
        UnsupportedModelError: An owner is not run exactly once per forward pass, or its output has other parts.
    """
    seen = [_Seen() for _ in owners]
    with ExitStack() as hooks:
        for owner, record in zip(owners, seen, strict=True):
            for handle in _watch(owner, record):
                hooks.callback(handle.remove)
        device = getattr(model, "device", torch.device("cpu"))
        ids = torch.arange(1, _TOKENS + 1, device=device)[None]
        with torch.no_grad():
            model(input_ids=ids, use_cache=False)
    return [_checked(owner, record) for owner, record in zip(owners, seen, strict=True)]


def _watch(owner: Owner, record: _Seen) -> list[Any]:
    """Install hooks that fill `record`, ignoring forward passes of other threads."""
    thread = threading.get_ident()

    def mine(take: Callable[..., None]) -> Callable[..., None]:
        def hook(*arguments: Any) -> None:
            if threading.get_ident() == thread:
                take(*arguments)

        return hook

    def take_output(_module: Any, inputs: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
        # copied, as a layer may modify the tensor in place
        rows = _rows(output[0] if isinstance(output, tuple) else output).clone()
        given = [_rows(value) for value in (*inputs, *named.values()) if isinstance(value, torch.Tensor)]
        record.outputs.append((rows, [value.clone() for value in given if value.shape == rows.shape]))

    def take_dense(_module: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        record.dense.append((_rows(inputs[0]).clone(), _rows(output).clone()))

    def take_gate(_module: Any, _inputs: Any, output: torch.Tensor) -> None:
        record.gates.append(_rows(output).clone())

    def take_experts(*parts: torch.Tensor) -> None:
        record.experts.append((parts[0].clone(), parts[1].clone(), parts[2].clone()))

    handles: list[Any] = [owner.module.register_forward_hook(mine(take_output), with_kwargs=True)]
    if owner.dense is not None:
        handles.append(owner.dense.down.register_forward_hook(mine(take_dense)))
        if owner.dense.gate is not None:
            handles.append(owner.dense.gate.register_forward_hook(mine(take_gate)))
    if isinstance(owner.routed, Llama4Experts):
        handles += owner.routed.watch(mine(take_experts))
    elif owner.routed is not None:

        def recompute(module: Any, inputs: tuple[torch.Tensor, ...], named: dict[str, Any], _output: Any) -> None:
            take_experts(*expert_activations(module, *inputs, **named)[1:])

        handles.append(owner.routed.experts.register_forward_hook(mine(recompute), with_kwargs=True))
    return handles


def _rows(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().reshape(-1, tensor.shape[-1])


def _checked(owner: Owner, record: _Seen) -> Owner:
    routed_scale, dense_scale = _scales(owner, record)
    routed, dense = owner.routed, owner.dense
    if routed is not None:
        routed = replace(routed, scale=routed_scale)
    if dense is not None:
        dense = replace(dense, scale=dense_scale)
        if not dense.no_attribution and not _is_readable(dense, *record.dense[0]):
            reason = (
                f"the weight of {dense.name} is not the matrix that it multiplies by (quantized, or with an adapter)"
            )
            dense = replace(dense, no_attribution=reason)
    return replace(owner, routed=routed, dense=dense)


def _scales(owner: Owner, record: _Seen) -> tuple[float, float]:
    """Return the constants by which the owner multiplies its experts and its dense block to get its output."""
    parts: list[Sequence[Any]] = [record.outputs]
    if owner.dense is not None:
        parts.append(record.dense)
        if owner.dense.gate is not None:
            parts.append(record.gates)
    if owner.routed is not None:
        parts.append(record.experts)
    if any(len(part) != 1 for part in parts):
        msg = f"{owner.name} or a part of it is run {max(map(len, parts))} times in a forward pass, not once"
        raise UnsupportedModelError(msg)
    expected, inputs = record.outputs[0]
    dense = routed = torch.zeros_like(expected, dtype=torch.float32)
    if owner.dense is not None:
        dense = record.dense[0][1].float() * (record.gates[0].float().sigmoid() if record.gates else 1.0)
    if owner.routed is not None:
        top_k = record.experts[0][1].shape[-1]
        if top_k != owner.routed.top_k:
            msg = f"{owner.routed.name} runs {top_k} experts per token, and its config says {owner.routed.top_k}"
            raise UnsupportedModelError(msg)
        routed = owner.routed.output(*record.experts[0])
    scale = float(getattr(owner.module, "routed_scaling_factor", None) or 1.0)
    # MiniMax-M3 scales its experts here instead of in the router, and Cohere averages experts and shared expert
    known = ((1.0, 1.0), (scale, 1.0), (0.5, 0.5))
    # Bloom and MPT pass the residual stream to their blocks, which add it to the output
    added = (torch.zeros_like(dense), *inputs)
    errors = {
        (a, b): min(_relative_error(a * routed + b * dense + given, expected) for given in added) for a, b in known
    }
    best = min(errors, key=errors.__getitem__)
    if not errors[best] <= _tolerance(expected):
        msg = (
            f"the neurons of {owner.name} ({type(owner.module).__name__}) do not account for its output: "
            f"a relative error of {errors[best]:.1e}"
        )
        raise UnsupportedModelError(msg)
    return best


def _is_readable(dense: DenseBlock, activations: torch.Tensor, output: torch.Tensor) -> bool:
    """Return whether the down projection multiplies by the weight that the attribution score reads."""
    try:
        weight = dense.down_weight().float()
    except UnsupportedModelError:
        return False
    expected = output.float()
    bias = getattr(dense.down, "bias", None)
    if isinstance(bias, torch.Tensor):
        expected = expected - bias.float()
    # compressed-tensors leaves the class and the weight of a layer whose inputs it rounds
    exact = weight_format(dense.down) in _EXACT and not hasattr(dense.down, "quantization_scheme")
    tolerance = _tolerance(output) if exact else _QUANTIZED
    return _relative_error(activations.float() @ weight.T, expected) <= tolerance


def _relative_error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    norm = expected.float().norm()
    return float((actual - expected.float()).norm() / norm) if norm > 0 else float(actual.norm())


def _tolerance(output: torch.Tensor) -> float:
    return _TOLERANCE.get(output.dtype, _QUANTIZED)
