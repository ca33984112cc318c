"""Responses in JSON, and how OpenAPI describes them."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import Response

__all__ = ["JSONResponse", "dump_json", "json_or_events"]


def dump_json(content: Any) -> str:
    """Return JSON in ASCII, where half of a surrogate pair, which JSON allows and UTF-8 does not, stays an escape."""
    return json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":"))


class JSONResponse(Response):
    """A response whose body is JSON in ASCII."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Return the body."""
        return dump_json(content).encode("ascii")


def json_or_events(description: str) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI description of a response that is JSON, or a stream of events if the request asks for one."""
    content: dict[str, Any] = {
        "application/json": {"schema": {"type": "object"}},
        "text/event-stream": {"schema": {"type": "string"}},
    }
    return {200: {"description": description, "content": content}}
