"""From a selection to LangChain's message: usage, evidence, finish reason."""

from __future__ import annotations

import math
from typing import Any, cast

from langchain_core.messages.ai import OutputTokenDetails, UsageMetadata

from nad_agents.types import Selection

__all__ = ["PROVIDER", "evidence", "response_metadata", "usage_metadata"]

PROVIDER = "nad"
"""What tracing and content blocks know this integration by."""


def usage_metadata(selection: Selection) -> UsageMetadata:
    """Tokens of an answer: the prompt once, as it is prefilled once; every token of every candidate as output.

    `output_token_details` says how many of them are the winner's and how many pruning saved.
    """
    usage = selection.usage
    details: Any = {"winner": usage.winner_tokens, "saved": usage.saved_tokens}
    return UsageMetadata(
        input_tokens=usage.prompt_tokens,
        output_tokens=usage.generated_tokens,
        total_tokens=usage.prompt_tokens + usage.generated_tokens,
        output_token_details=cast("OutputTokenDetails", details),
    )


def response_metadata(
    selection: Selection, *, model: str | None, include_candidates: bool, finish_reason: str | None = None
) -> dict[str, Any]:
    """Metadata of an answer: model, finish reason, and the evidence under ``nad``.

    Args:
        selection: what was decided.
        model: the model as the caller names it; None takes the decoder's name for it.
        include_candidates: see `evidence`.
        finish_reason: instead of the winner's own.
    """
    return {
        "model_name": model or selection.model,
        "model_provider": PROVIDER,
        "finish_reason": finish_reason or selection.best.finish_reason,
        "nad": evidence(selection, include_candidates=include_candidates),
    }


def evidence(selection: Selection, *, include_candidates: bool = False) -> dict[str, Any]:
    """Why this answer was chosen, JSON-serialisable.

    Args:
        selection: what was decided.
        include_candidates: also the candidates with their texts, the similarity matrix and the selector's details.
    """
    found: dict[str, Any] = {
        "selector": selection.selector,
        "n": len(selection.candidates),
        "winner": selection.winner,
        "scores": [_number(c.score) for c in selection.candidates],
        "ranking": list(selection.ranking),
        "agreement": _number(selection.best.agreement),
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
            {name: _number(value) for name, value in c.model_dump().items()} for c in selection.candidates
        ]
        found["similarity_matrix"] = [list(row) for row in selection.similarity_matrix or ()]
        found["details"] = selection.details
    return found


def _number(value: Any) -> Any:
    """JSON has no NaN and no infinity."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
