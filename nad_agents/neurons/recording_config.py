"""`RecordingConfig`: which neurons count as activated. It is part of every request, and imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from nad_agents.types import ScoreName

__all__ = ["RecordingConfig"]


@dataclass(frozen=True)
class RecordingConfig:
    """Which neurons count as activated.

    Attributes:
        score: `activation` is |h|; `attribution` is h * (W_U[y] . W_down[:, i]), signed, for the emitted token y
            (arXiv 2504.07440, eq. 5).
        top_k_neurons: Number of activated neurons per token.
        top_k_neurons_per_layer: Largest number of activated neurons per token from one layer.
        layers: (first, end) of the recorded layers, counted over those with a feed-forward block; None records all.
        router_weights: Whether the activation score of a mixture of experts is |h| times the router's weight of the
            expert, or |h| alone. Attribution always includes the weight. With the weight, a mixture is scored as one
            wide feed-forward block: a neuron adds w * h times its direction to the residual stream, so an expert of
            little weight does not fill the set.
    """

    score: ScoreName = "activation"
    top_k_neurons: int = 500
    top_k_neurons_per_layer: int = 64
    layers: tuple[int, int] | None = None
    router_weights: bool = True
