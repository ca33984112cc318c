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
        top_k: Number of activated neurons per token.
        per_layer_top: Greatest number of them from one layer.
        layers: (first, end) of the recorded decoder layers; None records all.
    """

    score: ScoreName = "activation"
    top_k: int = 500
    per_layer_top: int = 64
    layers: tuple[int, int] | None = None
