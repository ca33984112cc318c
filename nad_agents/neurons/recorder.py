"""Record the activated neurons of generated tokens.

`ActivationTap` (`nad_agents.neurons.tap`) copies the activations while the model runs. `activated_neurons` then turns a
full buffer into neuron ids, for all rows and steps at once: the `top_k_neurons_per_layer` best-scored neurons of each
layer, then the `top_k_neurons` best of those over all recorded layers (arXiv 2510.26277, appendix B).

Memory: on a CPU the buffer takes at most `BUFFER_BYTES` or one step, whichever is more, so a chunk may be reduced in
several parts; on a GPU it takes a part of the free memory. Each token keeps `top_k_neurons` int32 ids. In a mixture
of experts, only the activations of the experts that a token was routed to are held and compared; no tensor has an entry
for every neuron of the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch

from nad_agents.exceptions import ConfigurationError, RecordingError, UnsupportedModelError
from nad_agents.neurons.architectures import FeedForward, Unembedding
from nad_agents.neurons.recording_config import RecordingConfig
from nad_agents.neurons.tap import LayerActivations
from nad_agents.neurons.top_k import LayerScores, top_neurons
from nad_agents.rollouts import NeuronLayout
from nad_agents.types import ScoreName

__all__ = ["BUFFER_BYTES", "activated_neurons", "neuron_layout"]

BUFFER_BYTES: Mapping[ScoreName, int] = {"activation": 16 * 2**20, "attribution": 64 * 2**20}
"""Greatest size of the buffer on a CPU for each score; it always holds at least one step. A small buffer stays in the
cache, but attribution reads every down projection once per full buffer (both sizes are measured)."""

_LARGEST_ID = 2**31 - 1


def neuron_layout(blocks: Sequence[FeedForward], config: RecordingConfig) -> NeuronLayout:
    """Number the neurons of the recorded layers.

    Args:
        blocks: The neurons of all the model's layers that have a feed-forward block.
        config: Config with the range of recorded layers.

    Raises:
        ConfigurationError: The layer range lies outside the model.
        UnsupportedModelError: The recorded layers have more neurons than an int32 can number.
    """
    first, end = config.layers or (0, len(blocks))
    if not 0 <= first < end <= len(blocks):
        msg = f"layers={config.layers} does not fit a model with {len(blocks)} layers that have a feed-forward block"
        raise ConfigurationError(f"{msg}; end at {len(blocks)} or before")
    layout = NeuronLayout(end - first, max(block.d_ff for block in blocks), first)
    if layout.n_neurons > _LARGEST_ID:
        msg = f"{layout.n_layers} layers of up to {layout.d_ff:,} neurons are more than can be numbered"
        raise UnsupportedModelError(f"{msg}; record at most {_LARGEST_ID // layout.d_ff} of them with layers=")
    return layout


def activated_neurons(
    activations: Sequence[LayerActivations],
    token_ids: torch.Tensor,
    config: RecordingConfig,
    layout: NeuronLayout,
    blocks: Sequence[FeedForward],
    *,
    unembedding: Unembedding | None = None,
) -> torch.Tensor:
    """Return the neuron ids of every token's activated set, best-scored first.

    Args:
        activations: Activations of each recorded layer in some steps.
        token_ids: [steps, rows], the token that each position emitted.
        config: Score, top_k_neurons and top_k_neurons_per_layer.
        layout: Numbering of the neurons.
        blocks: The neurons of the recorded layers, in the order of `activations`.
        unembedding: The model's unembedding, which the attribution score needs.

    Returns:
        int32 [steps, rows, k], where k = min(top_k_neurons, what all layers offer). A neuron whose score is exactly
        zero is not activated; -1 stands in its place.

    Raises:
        RecordingError: The score is attribution, and the model has no unembedding matrix.
    """
    steps, rows = token_ids.shape
    directions = None
    if config.score == "attribution":
        if unembedding is None:
            msg = "the attribution score needs the unembedding matrix"
            raise RecordingError(msg)
        directions = unembedding.rows(token_ids.reshape(-1))

    def scores() -> Iterator[LayerScores]:
        for block, layer in zip(blocks, activations, strict=True):
            flat = _Tokens(block, layer)
            if directions is not None:
                values = flat.attributions(directions)
            else:
                values = flat.weighted() if config.router_weights else flat.values
            yield LayerScores(values, flat.number if block.routed is not None else None)

    magnitudes = config.score == "activation"
    top = top_neurons(
        scores(), config.top_k_neurons_per_layer, config.top_k_neurons, layout.d_ff, magnitudes=magnitudes
    )
    return top.view(steps, rows, -1)


class _Tokens:
    """One layer's activations, with steps and rows flattened to one axis of T tokens.

    Args:
        block: The layer's neurons.
        layer: The layer's activations.
    """

    def __init__(self, block: FeedForward, layer: LayerActivations) -> None:
        self._block = block
        self.values = layer.values.reshape(-1, block.width)
        self._experts = layer.experts.flatten(0, 1) if layer.experts is not None else None
        self._weights = layer.weights.flatten(0, 1) if layer.weights is not None else None

    def weighted(self) -> torch.Tensor:
        """Return the activations times the weights of their experts, [T, width]."""
        if self._weights is None:
            return self.values
        block, weights = self._block, self._weights.to(self.values.dtype)
        scaled = torch.empty_like(self.values)
        end = block.routed_width
        if block.routed is not None:
            parts = (len(scaled), block.routed.top_k, block.routed.d_ff)
            routed = weights[:, : block.routed.top_k, None]
            torch.mul(self.values[:, :end].view(parts), routed, out=scaled[:, :end].view(parts))
        if block.dense is not None:
            torch.mul(self.values[:, end:], weights[:, -1:], out=scaled[:, end:])
        return scaled

    def attributions(self, directions: torch.Tensor) -> torch.Tensor:
        """Return the direct contribution of every activation to the emitted token's logit, [T, width].

        Args:
            directions: [T, d_model], the unembedding rows of the emitted tokens.
        """
        block = self._block
        if block.routed is None and self._weights is None:
            assert block.dense is not None
            weight = block.dense.down_weight()
            # in place, as new memory for every layer would take as much time as the top-k
            return (directions.to(weight.device, weight.dtype) @ weight).to(self.values.dtype).mul_(self.values)
        scores = self.weighted()
        end = block.routed_width
        if block.routed is not None and self._experts is not None:
            routed = scores[:, :end].view(len(scores), block.routed.top_k, block.routed.d_ff)
            for expert, pairs in _by_expert(self._experts, block.routed.n_experts):
                token, place = pairs // block.routed.top_k, pairs % block.routed.top_k
                weight = block.routed.down_weight(expert)
                along = directions[token.to(directions.device)].to(weight.device, weight.dtype) @ weight
                routed[token, place] *= along.to(scores.device, scores.dtype)
        if block.dense is not None:
            weight = block.dense.down_weight()
            scores[:, end:] *= (directions.to(weight.device, weight.dtype) @ weight).to(scores.device, scores.dtype)
        return scores

    def number(self, places: torch.Tensor) -> torch.Tensor:
        """Return the neuron numbers within the layer for some places in the tokens' rows.

        Args:
            places: int64 [T, n], from 0 to the width.
        """
        routed, experts = self._block.routed, self._experts
        assert routed is not None
        assert experts is not None
        place = places.div(routed.d_ff, rounding_mode="floor").clamp_(max=routed.top_k - 1)
        numbers = experts.to(places.device).gather(-1, place) * routed.d_ff + places - place * routed.d_ff
        after = routed.n_experts * routed.d_ff - self._block.routed_width
        return torch.where(places < self._block.routed_width, numbers, places + after)


def _by_expert(experts: torch.Tensor, n_experts: int) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield each expert that a token was routed to, with the places of its number in `experts`, int64 [T, k]."""
    flat = experts.flatten()
    order = flat.argsort(stable=True)
    # read once for all experts, as reading makes the host wait for a device
    counts = torch.bincount(flat, minlength=n_experts).tolist()
    start = 0
    for expert, count in enumerate(counts):
        if count:
            yield expert, order[start : start + count]
        start += count
