"""Divide a decoder layer into feed-forward blocks and other known parts, and refuse a layer with unknown parts.

Every matrix of a layer must belong to a dense block, to routed experts with their router, to the token mixer
(attention, a state-space model, a convolution), or to one of the few named parts that carry the residual stream.
Vectors are ignored, as norms, biases and scales have no neurons.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from nad_agents.exceptions import UnsupportedModelError
from nad_agents.neurons.dense import DenseBlock, find_down_projection, linear_shape
from nad_agents.neurons.experts import Llama4Experts, RoutedExperts, SwitchedExperts, check_supported, is_switchable

__all__ = ["LayerReader", "Owner"]

_MIXER_NAME = re.compile(
    r"(self_|linear_|cross_)?(attn|attention|att)|mamba|conv|short_conv|attn_sconv|temporal_block|time_mixer"
)
_MIXER_CLASS = re.compile(r"\w*(Attention|FlashAttention2|SdpaAttention|Mamba2?Mixer|MambaLayer|DeltaNet|ShortConv)")
"""Matches names and classes of modules that mix tokens; the whole name or the whole class name must match."""

_FEED_FORWARD_NAME = re.compile(r"\w*(mlp|ffn|feed_forward|moe|experts?)", re.IGNORECASE)
"""Names of modules that a token mixer must not contain."""

_RESIDUAL_NAME = re.compile(r"altup|laurel|per_layer_input_gate|per_layer_projection|(attn|ffn)_hc")
"""Parts of a layer that neither mix tokens nor are a feed-forward block: Gemma 3n's and 4's injection of per-layer
embeddings and their low-rank residual, and the mixing of DeepSeek V4's parallel residual streams."""

_AFTER_BLOCK = {"Zamba2HybridLayer": "linear", "ZambaHybridLayer": "linear"}
"""Name of the matrix that a class of layers applies to its feed-forward output."""

_ROUTER_NAME = re.compile(r"gate|router")
_TOP_K_OPTIONS = ("num_experts_per_tok", "top_k_experts", "num_experts_per_token", "moe_topk", "moe_k")
_EXPERTS_NAME = re.compile(r"experts?")
_GATE_NAME = re.compile(r"shared_experts?_gate")


@dataclass(frozen=True)
class Owner:
    """A module whose output is that of a dense block, of routed experts, or the sum of both.

    Attributes:
        name: The module's qualified name in the model.
        module: The module.
        routed: The routed experts; None if there are none.
        dense: The dense block; None if there is none.
    """

    name: str
    module: nn.Module
    routed: RoutedExperts | None = None
    dense: DenseBlock | None = None


class LayerReader:
    """Reads the decoder layers of one model.

    Args:
        hidden: Width of the model.
        config: The model's text config, which has the number of experts per token.
    """

    def __init__(self, hidden: int, config: Any) -> None:
        self._hidden = hidden
        self._config = config

    def read(self, layer: nn.Module, name: str) -> list[Owner]:
        """Find the feed-forward blocks of a decoder layer.

        Args:
            layer: The layer.
            name: The layer's qualified name in the model.

        Returns:
            The owners of the layer's feed-forward outputs, with at most one dense block and one experts module in
            total; empty for a layer that only mixes tokens.

        Raises:
            UnsupportedModelError: A part of the layer is not understood.
        """
        owners = list(self._search(layer, name))
        dense = sum(owner.dense is not None for owner in owners)
        routed = sum(owner.routed is not None for owner in owners)
        if dense > 1 or routed > 1:
            names = ", ".join(owner.name for owner in owners)
            msg = f"it has several feed-forward blocks ({names}), which cannot be recorded"
            raise UnsupportedModelError(msg)
        return owners

    def _search(self, parent: nn.Module, name: str) -> Iterator[Owner]:
        """Yield the owners inside a layer, or inside a part of it that consists of other parts."""
        _check_own_matrices(parent, name)
        after = _AFTER_BLOCK.get(type(parent).__name__)
        linears = []
        for child_name, child in parent.named_children():
            full = f"{name}.{child_name}"
            if not _has_matrix(child) or _RESIDUAL_NAME.fullmatch(child_name) or child_name == after:
                continue
            if _MIXER_NAME.fullmatch(child_name) or _MIXER_CLASS.fullmatch(type(child).__name__):
                _check_mixer(child, full)
            elif linear_shape(child) is not None:
                linears.append((child_name, child))
            elif _is_router(child_name) and any(_is_experts(other) for other in parent.children()):
                continue  # this is a router next to experts that belong to the layer itself
            elif (owner := self._owner(child, full)) is not None:
                yield owner
            else:
                inner = self._search(child, full)
                yield from (_without_attribution(owner, f"{name}.{after}") for owner in inner) if after else inner
        if linears:
            # some layers, such as OPT's, own the projections directly
            found = find_down_projection(linears, self._hidden)
            if found is None:
                msg = f"the purpose of {name}.{linears[0][0]} ({type(linears[0][1]).__name__}) is unknown"
                raise UnsupportedModelError(msg)
            down_name, down, kind, d_ff = found
            full = f"{name}.{down_name}"
            yield Owner(full, down, dense=DenseBlock(full, kind, d_ff, down))

    def _owner(self, module: nn.Module, name: str) -> Owner | None:
        """Return a module as the owner of a feed-forward output; None if it is not an owner itself."""
        if _is_experts(module):
            return Owner(name, module, routed=self._experts(module, name, None, module))
        dense = self._dense(module, name)
        if dense is not None:
            return Owner(name, module, dense=dense)
        children = {child_name: child for child_name, child in module.named_children() if _has_matrix(child)}
        experts = [child_name for child_name in children if _EXPERTS_NAME.fullmatch(child_name)]
        if not experts:
            return None
        if len(experts) > 1 or not _is_experts(children[experts[0]]):
            kinds = ", ".join(f"{name}.{child_name} ({type(children[child_name]).__name__})" for child_name in experts)
            msg = f"the experts {kinds} are of an unknown or quantized kind"
            raise UnsupportedModelError(msg)
        _check_own_matrices(module, name)
        router = next((children[child_name] for child_name in children if _is_router(child_name)), None)
        routed = self._experts(children.pop(experts[0]), f"{name}.{experts[0]}", router, module)
        shared: list[DenseBlock] = []
        gate = None
        for child_name, child in children.items():
            full = f"{name}.{child_name}"
            if _is_router(child_name):
                continue
            if _GATE_NAME.fullmatch(child_name) and linear_shape(child) == (self._hidden, 1):
                gate = child
            elif (block := self._dense(child, full)) is not None:
                shared.append(block)
            else:
                msg = f"the purpose of {full} ({type(child).__name__}) beside routed experts is unknown"
                raise UnsupportedModelError(msg)
        if len(shared) > 1 or (gate is not None and not shared):
            msg = f"the shared experts of {name} ({type(module).__name__}) are not one block"
            raise UnsupportedModelError(msg)
        return Owner(name, module, routed, replace(shared[0], gate=gate) if shared else None)

    def _dense(self, module: nn.Module, name: str) -> DenseBlock | None:
        """Return an owner if a module's matrices are exactly those of a dense block and of adapters before neurons."""
        if any(parameter.dim() > 1 for parameter in module.parameters(recurse=False)):
            return None
        parts = [
            (child_name, child)
            for child_name, child in module.named_children()
            if _has_matrix(child) and "adapter" not in child_name
        ]
        if not all(linear_shape(child) is not None for _, child in parts):
            return None
        found = find_down_projection(parts, self._hidden)
        if found is None:
            return None
        down_name, down, kind, d_ff = found
        return DenseBlock(f"{name}.{down_name}", kind, d_ff, down)

    def _experts(self, experts: nn.Module, name: str, router: nn.Module | None, block: nn.Module) -> RoutedExperts:
        n_experts, *sides = experts.get_parameter("down_proj").shape
        top_k = self._top_k(name, router, block)
        routed: RoutedExperts
        if is_switchable(experts):
            routed = SwitchedExperts(name, experts, n_experts, sides[0 if experts.is_transposed else 1], top_k)
        else:
            routed = Llama4Experts(name, experts, n_experts, sides[0], top_k, router=router)
        check_supported(routed)
        return routed

    def _top_k(self, name: str, *modules: nn.Module | None) -> int:
        """Return the number of experts per token from the router, the block around the router, or the config."""
        known = [getattr(module, "top_k", None) for module in modules]
        known += [getattr(self._config, option, None) for option in _TOP_K_OPTIONS]
        for number in known:
            if isinstance(number, int):
                return number
        msg = f"the number of experts per token of {name} is unknown"
        raise UnsupportedModelError(msg)


def _without_attribution(owner: Owner, matrix: str) -> Owner:
    if owner.dense is None:
        return owner
    reason = f"the output of {owner.name} passes {matrix} before it reaches the residual stream"
    return replace(owner, dense=replace(owner.dense, no_attribution=reason))


def _is_experts(module: nn.Module) -> bool:
    return is_switchable(module) or type(module).__name__ == "Llama4TextExperts"


def _is_router(name: str) -> bool:
    return _ROUTER_NAME.fullmatch(name) is not None


def _has_matrix(module: nn.Module) -> bool:
    """Return whether a module has a matrix; quantized modules may keep it in a buffer."""
    if linear_shape(module) is not None:
        return True
    if any(parameter.dim() > 1 for parameter in module.parameters(recurse=False)):
        return True
    return any(_has_matrix(child) for child in module.children())


def _check_own_matrices(module: nn.Module, name: str) -> None:
    for own, parameter in module.named_parameters(recurse=False):
        if parameter.dim() > 1:
            msg = f"the purpose of the matrix {name}.{own} ({type(module).__name__}) is unknown"
            raise UnsupportedModelError(msg)


def _check_mixer(mixer: nn.Module, name: str) -> None:
    """Refuse a token mixer that contains a feed-forward block, whose neurons would not be recorded."""
    for inner, module in mixer.named_modules():
        if inner and _has_matrix(module) and _FEED_FORWARD_NAME.fullmatch(inner.rpartition(".")[2]):
            msg = f"the token mixer {name} has a feed-forward block inside ({inner})"
            raise UnsupportedModelError(msg)
