"""Record the activations of routed experts, which hooks on modules cannot access.

transformers keeps the experts of a layer in one module with 3-D weights, and computes the activations inside a function
that `set_experts_implementation` can replace. `RECORDING_EXPERTS` names such a function: it gives the same results as
the other implementations, and passes the activations of every token's experts to the module's watcher.

A mixture is one wide feed-forward block. Its activations are those of the chosen experts times the router's weights,
and zero for all other experts. A dense block is the special case of one expert with weight 1.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.nn import functional
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

from nad_agents.exceptions import UnsupportedModelError

__all__ = [
    "RECORDING_EXPERTS",
    "Llama4Experts",
    "Removable",
    "RoutedExperts",
    "SwitchedExperts",
    "Watcher",
    "check_supported",
    "expert_activations",
    "is_switchable",
]

RECORDING_EXPERTS = "nad_recording"
"""Name of the experts implementation that records; transformers' `set_experts_implementation` takes it."""

Watcher = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], None]
"""Function that receives the results of one forward pass for T tokens, each routed to k experts of f neurons: the
activations [T, k, f], the numbers of the experts [T, k], and their weights in the output [T, k]."""

_WATCHERS: WeakKeyDictionary[nn.Module, Watcher] = WeakKeyDictionary()
"""The watcher of each watched experts module."""


class Removable(Protocol):
    """A handle that removes a hook or a watcher from a module."""

    def remove(self) -> None:
        """Remove the hook or the watcher."""
        ...


class _Watching:
    """The handle that removes an entry of `_WATCHERS`."""

    def __init__(self, experts: nn.Module, watcher: Watcher) -> None:
        self._experts = experts
        _WATCHERS[experts] = watcher

    def remove(self) -> None:
        _WATCHERS.pop(self._experts, None)


class _Replaced:
    """The handle that gives a module its own `forward` back."""

    def __init__(self, module: nn.Module, forward: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self._module = module
        self._before = vars(module).get("forward")
        module.forward = forward

    def remove(self) -> None:
        if self._before is None:
            del self._module.forward
        else:
            self._module.forward = self._before


@dataclass(frozen=True)
class RoutedExperts(ABC):
    """The routed experts of one layer.

    Attributes:
        name: Qualified name of the experts' module in the model.
        experts: The module; its ``down_proj`` is a 3-D parameter.
        n_experts: Number of experts.
        d_ff: Neurons of one expert.
        top_k: Number of experts per token.
        scale: Constant by which the experts' output is multiplied, in addition to the router's weights.
    """

    name: str
    experts: Any
    n_experts: int
    d_ff: int
    top_k: int
    scale: float = 1.0

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the activations."""
        dtype: torch.dtype = self.experts.down_proj.dtype
        return dtype

    @abstractmethod
    def down_weight(self, expert: int) -> torch.Tensor:
        """Return the down projection of one expert, [d_model, d_ff]."""

    @abstractmethod
    def watch(self, watcher: Watcher) -> list[Removable]:
        """Pass the activations of every forward pass to `watcher` until the returned handles are removed."""

    def output(self, activations: torch.Tensor, experts: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Return what the experts add to the residual stream according to a watcher's arguments, [T, d_model]."""
        bias = getattr(self.experts, "down_proj_bias", None)
        out = torch.zeros(len(activations), self.down_weight(0).shape[0], device=activations.device)
        for expert in sorted(set(experts.flatten().tolist())):
            token, place = torch.where(experts == expert)
            part = activations[token, place].float() @ self.down_weight(expert).float().T
            if bias is not None:
                part += bias[expert].float()
            out.index_add_(0, token, part * weights[token, place, None].float())
        return out


class SwitchedExperts(RoutedExperts):
    """Experts whose implementation transformers can replace (`use_experts_implementation`)."""

    def down_weight(self, expert: int) -> torch.Tensor:
        """Return the down projection of one expert, [d_model, d_ff]."""
        weight: torch.Tensor = self.experts.down_proj[expert].detach()
        return weight.T if self.experts.is_transposed else weight

    def watch(self, watcher: Watcher) -> list[Removable]:
        """Watch the module; the caller sets the model's experts implementation to `RECORDING_EXPERTS`."""
        return [_Watching(self.experts, watcher)]


@dataclass(frozen=True)
class Llama4Experts(RoutedExperts):
    """Llama 4's experts: each expert computes every token, and the router scales the inputs of the first projection.

    transformers cannot replace their implementation, so the module's `forward` is replaced by one that computes the
    same. The inputs of experts that a token was not routed to are zeros. A chosen expert's weight in the output is 1.

    Attributes:
        router: The router, which returns the scores [T, experts] and the logits they come from.
    """

    router: Any = None

    def down_weight(self, expert: int) -> torch.Tensor:
        """Return the down projection of one expert, [d_model, d_ff]."""
        weight: torch.Tensor = self.experts.down_proj[expert].detach()
        return weight.T

    def watch(self, watcher: Watcher) -> list[Removable]:
        """Watch the router with a hook, and replace the experts' `forward`."""
        chosen: list[torch.Tensor] = []

        def route(router: Any, _inputs: Any, output: tuple[torch.Tensor, torch.Tensor]) -> None:
            chosen[:] = [output[1].topk(router.top_k, dim=-1).indices]

        def forward(hidden_states: torch.Tensor) -> torch.Tensor:
            index, module = chosen.pop(), self.experts
            scaled = hidden_states.view(self.n_experts, len(index), -1)
            gate, up = torch.bmm(scaled, module.gate_up_proj).chunk(2, dim=-1)
            activations = up * module.act_fn(gate)
            tokens = torch.arange(len(index), device=index.device)[:, None]
            watcher(activations[index, tokens], index, torch.ones_like(index, dtype=torch.float32))
            return torch.bmm(activations, module.down_proj).view(hidden_states.shape)

        return [self.router.register_forward_hook(route), _Replaced(self.experts, forward)]


def is_switchable(module: nn.Module) -> bool:
    """Return whether an experts module has unquantized weights and an implementation that can be replaced."""
    weight = getattr(module, "down_proj", None)
    # has_post_expert_norm is not among them: older versions of transformers normalize no output and lack the flag
    flags = ("has_gate", "has_bias", "is_transposed", "_apply_gate")
    return (
        isinstance(weight, torch.Tensor)
        # quantization packages and expert parallelism use classes of their own
        and type(weight) in {torch.Tensor, nn.Parameter}
        and weight.dim() == 3
        and weight.is_floating_point()
        and weight.itemsize > 1
        and all(hasattr(module, flag) for flag in flags)
    )


def _recorded_experts_forward(
    experts: Any, hidden_states: torch.Tensor, top_k_index: torch.Tensor, top_k_weights: torch.Tensor
) -> torch.Tensor:
    """Compute the same as transformers' experts implementations, and pass the activations to the module's watcher.

    Args:
        experts: The experts' module, as `use_experts_implementation` makes it.
        hidden_states: [T, d_model].
        top_k_index: [T, k], the experts of each token.
        top_k_weights: [T, k], their weights.

    Returns:
        [T, d_model], the weighted sum of the experts' outputs.
    """
    output, *recorded = expert_activations(experts, hidden_states, top_k_index, top_k_weights)
    watcher = _WATCHERS.get(experts)
    if watcher is not None:
        watcher(*recorded)
    return output


def expert_activations(
    experts: Any, hidden_states: torch.Tensor, top_k_index: torch.Tensor, top_k_weights: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Run routed experts, and return what the recorder needs of them.

    Args:
        experts: The experts' module.
        hidden_states: [T, d_model], the tokens.
        top_k_index: Int64 [T, k], the experts of each token.
        top_k_weights: [T, k], the router's weights of these experts.

    Returns:
        The output [T, d_model], and the arguments for a `Watcher`.
    """
    tokens, top_k = top_k_index.shape
    # 1. the pairs of token and expert, ordered by expert
    pairs, order = torch.sort(top_k_index.reshape(-1), stable=True)
    inverse = torch.empty_like(order)
    inverse[order] = torch.arange(len(order), device=order.device)
    rows = hidden_states[torch.div(order, top_k, rounding_mode="floor")]
    product = _ByExpert(experts, pairs)
    # 2. up, activation, down
    if experts.has_gate:
        activations = experts._apply_gate(product(rows, "gate_up_proj"))
    else:
        activations = experts.act_fn(product(rows, "up_proj"))
    out = product(activations, "down_proj")
    # 3. the weighted sum of each token's experts
    weighted = out[inverse].view(tokens, top_k, -1) * top_k_weights[..., None]
    recorded = activations[inverse].view(tokens, top_k, -1)
    return weighted.sum(dim=1).to(hidden_states.dtype), recorded, top_k_index, top_k_weights


class _ByExpert:
    """Multiplies rows, which are ordered by expert, with the weights of their experts.

    Args:
        experts: The experts' module.
        pairs: [S], the expert of each row, ascending.
    """

    def __init__(self, experts: Any, pairs: torch.Tensor) -> None:
        self._experts = experts
        self._pairs = pairs
        numbers = torch.arange(experts.down_proj.shape[0], device=pairs.device)
        # counting them would make the host wait
        self._ends = torch.searchsorted(pairs, numbers, right=True, out_int32=True)
        self._grouped = _can_group(experts.down_proj)
        self._runs = [] if self._grouped else _runs(self._ends.tolist())

    def __call__(self, rows: torch.Tensor, name: str) -> torch.Tensor:
        """Return [S, outputs], with the bias if there is one."""
        weight = getattr(self._experts, name)
        if not self._experts.is_transposed:
            weight = weight.transpose(-2, -1)
        rows = rows.to(weight.dtype)
        if self._grouped:
            product = functional.grouped_mm(rows, weight, offs=self._ends)
        else:
            product = rows.new_empty(len(rows), weight.shape[-1])
            for expert, start, end in self._runs:
                torch.mm(rows[start:end], weight[expert], out=product[start:end])
        if self._experts.has_bias:
            product = product + getattr(self._experts, f"{name}_bias")[self._pairs]
        return product


def _runs(ends: list[int]) -> list[tuple[int, int, int]]:
    """Return the number, first row and end of the experts that have rows."""
    starts = [0, *ends[:-1]]
    return [(expert, start, end) for expert, (start, end) in enumerate(zip(starts, ends, strict=True)) if end > start]


def _can_group(weight: torch.Tensor) -> bool:
    """Return whether one kernel can multiply all experts; on a CPU a loop is equally fast (measured).

    Hopper and the Blackwell of data centers have the kernel. Elsewhere torch's function loops over the experts, whose
    numbers of rows the host reads in every call.
    """
    return (
        weight.device.type == "cuda"
        and weight.dtype == torch.bfloat16
        and hasattr(functional, "grouped_mm")
        and torch.cuda.get_device_capability(weight.device)[0] in {9, 10}
    )


def check_supported(routed: RoutedExperts) -> None:
    """Refuse experts whose output is not just the weighted sum of their down projections.

    Raises:
        UnsupportedModelError: The experts are spread over several devices, or their outputs are normalized.
    """
    if getattr(routed.experts, "_is_expert_parallel", False):
        msg = f"{routed.name} is spread over several devices; load the model without expert parallelism"
        raise UnsupportedModelError(msg)
    if getattr(routed.experts, "has_post_expert_norm", False):
        msg = (
            f"{routed.name} normalizes every expert's output, so that no neuron has a direct contribution; "
            "switch the recorder off with record=False and choose a selector without neurons"
        )
        raise UnsupportedModelError(msg)


ALL_EXPERTS_FUNCTIONS.register(RECORDING_EXPERTS, _recorded_experts_forward)
