"""The body of POST /v1/completions."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from nad_server.wire import SamplingFields

__all__ = ["CompletionRequest"]


class CompletionRequest(SamplingFields):
    """Text to go on with; `best_of` is the number of candidates, which is what it means at OpenAI too."""

    prompt: str | Annotated[list[str], Field(min_length=1)]
    suffix: str | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    best_of: int | None = Field(default=None, ge=1)
    logprobs: int | None = Field(default=None, ge=0, le=0)

    @property
    def token_limit(self) -> int | None:
        """Tokens that an answer may have, where the request says it."""
        return self.max_tokens
