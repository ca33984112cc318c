"""`StructuredOutput`: a grammar for a backend that enforces grammars itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["StructuredOutput"]


@dataclass(frozen=True)
class StructuredOutput:
    """Stands in for a logits processor in a request to a backend that enforces grammars itself.

    Unlike `GrammarLogitsProcessor`, such a backend does not complete an answer before the token limit; it cuts an
    answer that reaches the limit.

    Attributes:
        lark: The grammar in llguidance's dialect of Lark.
        json_schema: The JSON schema, if the grammar consists of nothing else.
    """

    lark: str
    json_schema: Mapping[str, Any] | None = None
