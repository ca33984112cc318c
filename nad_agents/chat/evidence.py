"""The evidence for a selection as plain data, the same in every front end."""

from __future__ import annotations

import math
from typing import Any

from nad_agents.types import Selection

__all__ = ["evidence"]


def evidence(selection: Selection, *, include_candidates: bool = False) -> dict[str, Any]:
    """Return why an answer was chosen as JSON-serializable data.

    Args:
        selection: The decoder's selection.
        include_candidates: Whether to add the candidates with their texts, the similarity matrix and the selector's
            details.
    """
    found: dict[str, Any] = {
        "selector": selection.selector,
        "n": len(selection.candidates),
        "winner": selection.winner,
        "scores": [_finite(c.score) for c in selection.candidates],
        "ranking": list(selection.ranking),
        "agreement": _finite(selection.best.agreement),
        "confidence": selection.confidence,
        **({} if selection.low_confidence is None else {"low_confidence": selection.low_confidence}),
        "tokens_generated": selection.usage.generated_tokens,
        "tokens_saved": selection.usage.saved_tokens,
        "seed": selection.seed,
        "timings": {name: round(seconds, 4) for name, seconds in selection.timings.model_dump().items()},
    }
    if selection.verified is not None:
        checked = [c for c in selection.candidates if c.verdict is not None]
        found["verification"] = {
            "passed": selection.verified,
            "checked": len(checked),
            "verdict": selection.best.verdict,
        }
    if include_candidates:
        found["candidates"] = [
            {name: _finite(value) for name, value in c.model_dump().items()} for c in selection.candidates
        ]
        found["similarity_matrix"] = [list(row) for row in selection.similarity_matrix or ()]
        found["details"] = selection.details
    return found


def _finite(value: Any) -> Any:
    """Return a value unless it is NaN or infinite, which JSON cannot hold."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
