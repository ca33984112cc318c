"""`StructuredOutput`: a grammar for a backend that holds the candidates to it by its own means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["StructuredOutput"]


@dataclass(frozen=True)
class StructuredOutput:
    """Takes the place of a logits processor in a request to a backend that runs its own.

    Unlike `GrammarLogitsProcessor`, such a backend does not complete an answer before the token limit: an answer that
    reaches the limit is cut.

    Attributes:
        lark: The grammar in llguidance's dialect of Lark.
        json_schema: The schema, where the grammar is that of one JSON schema and nothing else.
    """

    lark: str
    json_schema: Mapping[str, Any] | None = None
