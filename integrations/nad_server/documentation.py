"""What the OpenAPI page says of answers, which are written by hand and not from models."""

from __future__ import annotations

from typing import Any

from nad_server.errors import ErrorBody

__all__ = ["ERRORS", "answers_with"]

_MEANINGS = {
    400: "The request is wrong; the error names the parameter.",
    401: "No valid API key.",
    403: "The server does not answer to the name by which it was called.",
    404: "No such model.",
    413: "The body is too long.",
    422: "No candidate passed the checks.",
    429: "Too many requests wait; Retry-After says when to come back.",
    500: "The server failed.",
    501: "The server lacks a package that the request needs.",
    503: "The server shuts down, or its sandbox does not work.",
}
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody, "description": meaning} for status, meaning in _MEANINGS.items()
}
"""The errors that an endpoint may answer with."""


def answers_with(about: str) -> dict[int | str, dict[str, Any]]:
    """The description of an answer in JSON that may also come as a stream of events."""
    anything: dict[str, Any] = {"schema": {"type": "object"}}
    stream: dict[str, Any] = {"schema": {"type": "string"}}
    return {200: {"description": about, "content": {"application/json": anything, "text/event-stream": stream}}}
