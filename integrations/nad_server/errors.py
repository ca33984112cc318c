"""Errors as OpenAI's clients read them: ``{"error": {"message", "type", "param", "code"}}``.

What a caller did wrong is told in full. What broke inside goes to the log; the caller learns that it did.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import Response

from nad_agents.exceptions import (
    ConfigurationError,
    GenerationCancelledError,
    NADError,
    NoCandidatePassedError,
    PromptError,
)

__all__ = [
    "ERRORS",
    "APIError",
    "ErrorBody",
    "JSONAnswer",
    "add_error_handlers",
    "answers_with",
    "as_api_error",
    "dump_json",
]


_LOG = logging.getLogger("nad_server")

_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}

_TOLD: tuple[tuple[type[NADError], int, str], ...] = (
    (ConfigurationError, 400, "invalid_value"),
    (NoCandidatePassedError, 422, "no_candidate_passed"),
    (GenerationCancelledError, 503, "server_shutting_down"),
)
"""Errors whose message is for the caller."""

_BROKEN_SANDBOX = (503, "the sandbox that checks candidates does not work; see the server's log", "sandbox_failed")

_UNKNOWN = (500, "the server failed on this request; see its log", "internal_error")

_KEPT: tuple[tuple[str, int, str, str], ...] = (
    ("MissingDependencyError", 501, "this server lacks a package that the request needs; see its log", "not_installed"),
    ("VerificationError", *_BROKEN_SANDBOX),
    ("SandboxError", *_BROKEN_SANDBOX),
)
"""Errors whose message is for the operator; by name, since the sandbox is optional."""

_NO_PARAMETERS = {"body", "query", "path", "str", "int", "float", "bool"}
"""What pydantic puts between the names of fields: where they came from, and which of several types was tried."""

_KIND = re.compile(r"[A-Z]|.*\[")
"""Likewise: a class, or a type with parameters."""


class APIError(Exception):
    """An answer that is an error.

    Attributes:
        status: HTTP status.
        message: for a person.
        code: for a program.
        param: the request's field that is wrong.
        headers: of the answer.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """What the client gets."""
        kind = _TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


class ErrorDetail(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(BaseModel):
    """The body of every answer that is an error."""

    error: ErrorDetail


def dump_json(content: Any) -> str:
    """JSON in ASCII, so that half a surrogate pair, which JSON allows and UTF-8 does not, stays an escape."""
    return json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":"))


class JSONAnswer(Response):
    """A response of JSON."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """The body."""
        return dump_json(content).encode("ascii")


def as_api_error(error: BaseException) -> APIError:
    """What a client is told of an exception; one that is nobody's fault is logged with its traceback."""
    if isinstance(error, APIError):
        return error
    if isinstance(error, PromptError):
        code = "context_length_exceeded" if "tokens" in str(error) else "invalid_prompt"
        return APIError(400, str(error), code=code, param="messages")
    told = next((APIError(s, str(error), code=code) for kind, s, code in _TOLD if isinstance(error, kind)), None)
    if told is not None:
        return told
    _LOG.error("a request failed", exc_info=error)
    names = {cls.__name__ for cls in type(error).__mro__}
    status, message, code = next((kept[1:] for kept in _KEPT if kept[0] in names), _UNKNOWN)
    return APIError(status, message, code=code)


def add_error_handlers(app: FastAPI) -> None:
    """Make every error of an app look alike."""

    @app.exception_handler(RequestValidationError)
    async def _invalid(_: Request, error: RequestValidationError) -> Response:
        problem = _telling(error.errors())
        place = [part for part in map(str, problem["loc"]) if part not in _NO_PARAMETERS and not _KIND.match(part)]
        param = ".".join(place) or None
        if problem["type"] == "json_invalid":
            failed = APIError(400, "the body is no valid JSON", code="invalid_json")
        else:
            said = str(problem["msg"]).removeprefix("Value error, ")
            message = f"{param}: {said[:1].lower()}{said[1:]}" if param else said
            kind = "missing_required_parameter" if problem["type"] == "missing" else "invalid_value"
            failed = APIError(400, message, code=kind, param=param)
        return _response(failed)

    @app.exception_handler(HTTPException)
    async def _http(_: Request, error: HTTPException) -> Response:
        return _response(APIError(error.status_code, str(error.detail), headers=error.headers))

    async def _told(_: Request, error: Exception) -> Response:
        return _response(as_api_error(error))

    for kind in (APIError, NADError, Exception):
        app.add_exception_handler(kind, _told)


def _telling(problems: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The problem to tell of: where several types were tried, that of the type which fits best."""
    same = [problem for problem in problems if problem["loc"][:2] == problems[0]["loc"][:2]]
    return max(same, key=lambda problem: (len(problem["loc"]), problem["type"] != "string_type"))


def _response(error: APIError) -> Response:
    return JSONAnswer(error.body(), status_code=error.status, headers=error.headers)


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
