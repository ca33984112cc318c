"""Metadata of an answer in LangChain's form: token counts, and the evidence for the selection."""

from __future__ import annotations

from typing import Any, cast

from langchain_core.messages.ai import OutputTokenDetails, UsageMetadata

from nad_agents.chat.evidence import evidence
from nad_agents.types import Selection

__all__ = ["PROVIDER", "response_metadata", "usage_metadata"]

PROVIDER = "nad"
"""Name of this integration in traces and content blocks."""


def usage_metadata(selection: Selection) -> UsageMetadata:
    """Return the token counts of an answer.

    The prompt counts once, as it is prefilled once, and every token of every candidate counts as output.
    `output_token_details` says how many of the output tokens are the winner's and how many pruning saved.

    Args:
        selection: The decoder's selection.
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
    """Return the metadata of an answer: model, finish reason, and the evidence under ``nad``.

    Args:
        selection: The decoder's selection.
        model: The model as the caller names it; None takes the decoder's name for it.
        include_candidates: Whether the evidence holds the candidates' texts and the similarity matrix.
        finish_reason: Replaces the winner's own.
    """
    return {
        "model_name": model or selection.model,
        "model_provider": PROVIDER,
        "finish_reason": finish_reason or selection.best.finish_reason,
        "nad": evidence(selection, include_candidates=include_candidates),
    }
