"""The neurons of a model by the written formulas, from one forward pass over a finished sequence.

Nothing here uses the recorder: the inputs of the feed-forward blocks and the router's choices are taken from the
library's own modules, and everything else is computed from the weights.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.nn import functional


@dataclass
class Layer:
    """The neurons that the tokens of a sequence can activate in one layer.

    Attributes:
        numbers: [T, n], the neurons' numbers in the layer.
        activations: [T, n].
        weights: [T, n], the router's weights; 1 for dense neurons.
        directions: [T, n, d], what one unit of each neuron adds to the residual stream.
    """

    numbers: torch.Tensor
    activations: torch.Tensor
    weights: torch.Tensor
    directions: torch.Tensor

    def scores(self, score: str, unembedding: torch.Tensor | None, router_weights: bool = True) -> torch.Tensor:
        """[T, n], by the formula; `unembedding` has the row of each position's emitted token."""
        if score == "attribution":
            return self.activations * self.weights * torch.einsum("tnd,td->tn", self.directions, unembedding)
        return (self.activations * (self.weights if router_weights else 1)).abs()


def formula_layers(model: nn.Module, layers: nn.ModuleList, ids: list[int]) -> list[Layer]:
    """The layers that have feed-forward neurons, in order."""
    inputs: dict[nn.Module, tuple[torch.Tensor, ...]] = {}
    experts_implementation = model.get_experts_implementation()
    model.set_experts_implementation("eager")
    with ExitStack() as stack:
        for module in layers.modules():
            handle = module.register_forward_pre_hook(
                lambda module, args, named: inputs.__setitem__(module, (*args, *named.values())), with_kwargs=True
            )
            stack.callback(handle.remove)
        with torch.no_grad():
            model(input_ids=torch.tensor([ids]), use_cache=False)
    model.set_experts_implementation(experts_implementation)
    with torch.no_grad():
        found = [_layer(layer, inputs) for layer in layers]
    return [layer for layer in found if layer is not None]


def _layer(layer: nn.Module, inputs: dict[nn.Module, tuple[torch.Tensor, ...]]) -> Layer | None:
    routed = next(
        (m for m in layer.modules() if type(m).__name__.endswith("Experts") and hasattr(m, "down_proj")), None
    )
    dense = next((m for m in layer.modules() if type(m).__name__.endswith(("MLP", "Mlp"))), None)
    if hasattr(layer, "fc1"):  # OPT has no module for its feed-forward block
        dense = layer
    parts, first = [], 0
    if routed is not None:
        llama4 = type(routed).__name__ == "Llama4TextExperts"
        parts += _llama4_experts(layer.feed_forward, routed, inputs) if llama4 else _experts(routed, *inputs[routed])
        first = routed.down_proj.shape[0] * parts[0].activations.shape[-1]
    # gpt-oss calls its module of experts an MLP
    if dense is not None and not hasattr(dense, "experts"):
        gate = next((m for name, m in layer.named_modules() if name.endswith("shared_expert_gate")), None)
        weight = None
        if gate is not None:
            (x,) = inputs[gate]
            weight = torch.sigmoid(x.flatten(0, -2) @ gate.weight.T)
        parts.append(_dense(dense, inputs, first, weight))
    if not parts:
        return None
    # constants by which a block multiplies what it adds up
    if routed is not None and type(routed).__name__ == "Cohere2MoeExperts":
        parts = [replace(part, weights=part.weights / 2) for part in parts]
    if routed is not None and type(routed).__name__ == "MiniMaxM3VLExperts":
        parts[:-1] = [replace(part, weights=part.weights * 2) for part in parts[:-1]]
    return Layer(
        *(torch.cat([getattr(part, name) for part in parts], 1) for name in ("numbers", "activations", "weights")),
        torch.cat([part.directions for part in parts], 1),
    )


def _dense(mlp: nn.Module, inputs: dict[nn.Module, tuple[torch.Tensor, ...]], first: int, weight) -> Layer:
    """A dense block, whose first neuron has the number `first`."""
    up, down = _projections(mlp)
    x = inputs[up][0].flatten(0, -2)
    h = _dense_activations(mlp, x, inputs)
    direction = down.weight if type(down).__name__ == "Conv1D" else down.weight.T
    numbers = (torch.arange(h.shape[1]) + first).expand(len(h), -1)
    weights = torch.ones_like(h) if weight is None else weight.expand_as(h)
    return Layer(numbers, h, weights, direction.expand(len(h), -1, -1))


def _projections(mlp: nn.Module) -> tuple[nn.Module, nn.Module]:
    names = (
        ("gate_up_proj", "down_proj"),
        ("up_proj", "down_proj"),
        ("w1", "w2"),
        ("input_linear", "output_linear"),
        ("c_fc", "c_proj"),
        ("dense_h_to_4h", "dense_4h_to_h"),
        ("fc1", "fc2"),
    )
    return next((getattr(mlp, up), getattr(mlp, down)) for up, down in names if hasattr(mlp, up) and hasattr(mlp, down))


def _dense_activations(
    mlp: nn.Module, x: torch.Tensor, inputs: dict[nn.Module, tuple[torch.Tensor, ...]]
) -> torch.Tensor:
    names = ("act_fn", "activation_fn", "activation", "act", "gelu_impl")
    act = next((getattr(mlp, name) for name in names if hasattr(mlp, name)), None)
    match type(mlp).__name__.removesuffix("MLP"):
        case "Phi3" | "Glm4":
            gate, up = mlp.gate_up_proj(x).chunk(2, dim=-1)
            return act(gate) * up
        case "Zamba2":
            both = mlp.gate_up_proj(x)
            # the adapter of this use of the shared block
            used = [adapter for adapter in mlp.gate_up_proj_adapter_list if adapter in inputs]
            gate, up = (both + used[0](x)).chunk(2, dim=-1)
            return act(gate) * up
        case "GraniteMoeHybrid" | "GraniteMoeShared":
            gate, up = mlp.input_linear(x).chunk(2, dim=-1)
            return act(gate) * up
        case "Gemma3nText":
            gate = mlp.gate_proj(x)
            if mlp.activation_sparsity > 0:
                # all but the largest gates are cut off, at a quantile of the normal distribution
                quantile = torch.distributions.Normal(0, 1).icdf(torch.tensor(mlp.activation_sparsity))
                gate = torch.relu(
                    gate - gate.mean(-1, keepdim=True) - quantile * gate.std(-1, keepdim=True, correction=0)
                )
            return act(gate) * mlp.up_proj(x)
        case "MiniMaxM3VLDense":
            return _clamped(*mlp.gate_up_proj(x).chunk(2, dim=-1))
        case "DeepseekV4":
            gate = mlp.gate_proj(x).clamp(max=mlp.limit)
            return functional.silu(gate) * mlp.up_proj(x).clamp(-mlp.limit, mlp.limit)
        case "Lfm2" | "Lfm3" | "Lfm2Moe":
            return functional.silu(mlp.w1(x)) * mlp.w3(x)
        case _:
            pass
    up, _ = _projections(mlp)
    if hasattr(mlp, "gate_proj"):
        return act(mlp.gate_proj(x)) * up(x)
    return act(up(x))


def _experts(experts: nn.Module, x: torch.Tensor, index: torch.Tensor, weights: torch.Tensor) -> list[Layer]:
    """The k experts of every token, in the order in which the router names them."""
    parts = []
    d_ff = experts.down_proj.shape[1 if experts.is_transposed else 2]
    for place in range(index.shape[1]):
        rows = []
        for token, expert in enumerate(index[:, place].tolist()):
            name = "gate_up_proj" if experts.has_gate else "up_proj"
            up = getattr(experts, name)[expert]
            both = x[token] @ (up if experts.is_transposed else up.T)
            if experts.has_bias:
                both = both + getattr(experts, f"{name}_bias")[expert]
            down = experts.down_proj[expert]
            rows.append((_expert_activations(experts, both), down if experts.is_transposed else down.T))
        numbers = index[:, place, None] * d_ff + torch.arange(d_ff)
        activations, directions = (torch.stack(part) for part in zip(*rows, strict=True))
        parts.append(Layer(numbers, activations, weights[:, place, None].float().expand_as(activations), directions))
    return parts


def _expert_activations(experts: nn.Module, both: torch.Tensor) -> torch.Tensor:
    match type(experts).__name__:
        case "NemotronHExperts":
            return torch.relu(both) ** 2
        case "GptOssExperts":
            return _clamped(both[::2], both[1::2])
        case "MiniMaxM3VLExperts":
            return _clamped(*both.chunk(2))
        case "DeepseekV4Experts":
            gate, up = both.chunk(2)
            return functional.silu(gate.clamp(max=experts.limit)) * up.clamp(-experts.limit, experts.limit)
        case "Gemma4TextExperts":
            gate, up = both.chunk(2)
            return functional.gelu(gate, approximate="tanh") * up
        case _:
            gate, up = both.chunk(2)
            return functional.silu(gate) * up


def _clamped(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """The activation of gpt-oss and MiniMax-M3."""
    gate, up = gate.clamp(max=7.0), up.clamp(-7.0, 7.0)
    return (up + 1) * gate * torch.sigmoid(1.702 * gate)


def _llama4_experts(
    block: nn.Module, experts: nn.Module, inputs: dict[nn.Module, tuple[torch.Tensor, ...]]
) -> list[Layer]:
    """Llama 4 scales the inputs of its experts, which therefore have the weight 1."""
    (x,) = inputs[block.router]
    logits = x @ block.router.weight.T
    values, index = logits.topk(block.router.top_k, dim=-1)
    parts = []
    d_ff = experts.down_proj.shape[1]
    for place in range(index.shape[1]):
        rows = []
        for token, expert in enumerate(index[:, place].tolist()):
            gate, up = (x[token] * torch.sigmoid(values[token, place]) @ experts.gate_up_proj[expert]).chunk(2)
            rows.append((functional.silu(gate) * up, experts.down_proj[expert]))
        activations, directions = (torch.stack(part) for part in zip(*rows, strict=True))
        numbers = index[:, place, None] * d_ff + torch.arange(d_ff)
        parts.append(Layer(numbers, activations, torch.ones_like(activations), directions))
    return parts


def assert_is_top(
    recorded, layers: list[tuple[torch.Tensor, torch.Tensor]], d_ff: int, top_k: int, per_layer: int
) -> None:
    """The recorded ids are the best top_k of the best per_layer of each layer, up to ties of float32 rounding.

    Args:
        recorded: Ids of one token, -1 for padding.
        layers: For each layer the numbers [n] and the scores [n] of the neurons that the token can activate.
        d_ff: Neurons per layer in the numbering.
        top_k: Neurons per token.
        per_layer: Most neurons of one layer.
    """
    known, pool, edges = {}, {}, {}
    for position, (numbers, scores) in enumerate(layers):
        ids = (numbers + position * d_ff).tolist()
        known |= dict(zip(ids, scores.tolist(), strict=True))
        order = scores.sort(descending=True, stable=True).indices[:per_layer].tolist()
        pool |= {ids[i]: float(scores[i]) for i in order}
        edges[position] = float(scores[order[-1]])
    best = sorted(pool, key=pool.__getitem__, reverse=True)[:top_k]
    expected = {neuron for neuron in best if pool[neuron] != 0}
    recorded_set = {int(i) for i in recorded if i >= 0}
    assert len(recorded_set) == sum(int(i) >= 0 for i in recorded), "an id twice"
    assert recorded_set <= known.keys(), recorded_set - known.keys()
    tolerance = 1e-5 * max(1.0, *map(abs, known.values()))
    for neuron in recorded_set ^ expected:
        near = [pool[best[-1]], edges[neuron // d_ff], 0.0]
        assert min(abs(known[neuron] - edge) for edge in near) <= tolerance, neuron
