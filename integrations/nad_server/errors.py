"""Errors as OpenAI's clients read them: ``{"error": {"message", "type", "param", "code"}}``.

A mistake of the caller is reported in full. A fault of the server is written to its log, and the caller learns only
that there was one.
"""

from __future__ import annotations

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
    LowConfidenceError,
    NADError,
    NoCandidatePassedError,
    PromptError,
)
from nad_server.json_response import JSONResponse

__all__ = ["ERRORS", "APIError", "ErrorBody", "add_error_handlers", "as_api_error", "shutting_down"]

_LOG = logging.getLogger("nad_server")

_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}

_FOR_THE_CALLER: tuple[tuple[type[NADError], int, str], ...] = (
    (ConfigurationError, 400, "invalid_value"),
    (NoCandidatePassedError, 422, "no_candidate_passed"),
    (LowConfidenceError, 422, "low_confidence"),
    (GenerationCancelledError, 503, "server_shutting_down"),
)
"""Exceptions whose message the caller gets, with status and code."""

_BROKEN_SANDBOX = (503, "the sandbox that checks candidates does not work; see the server's log", "sandbox_failed")
_FOR_THE_OPERATOR: dict[str, tuple[int, str, str]] = {
    "MissingDependencyError": (
        501,
        "this server lacks a package that the request needs; see its log",
        "not_installed",
    ),
    "VerificationError": _BROKEN_SANDBOX,
    "SandboxError": _BROKEN_SANDBOX,
}
"""Exceptions whose message only the log gets, with status, message and code for the caller.

They are known by name, since the package of the sandbox is optional.
"""
_UNKNOWN = (500, "the server failed on this request; see its log", "internal_error")

_MEANINGS = {
    400: "The request is wrong; the error names the parameter.",
    401: "The request has no valid API key.",
    403: "The server does not answer to the host name of the request.",
    404: "There is no such model or path.",
    413: "The body is too long.",
    422: "No candidate passed the checks.",
    429: "Too many requests are waiting; Retry-After says when to try again.",
    500: "The server failed.",
    501: "The server lacks a package that the request needs.",
    503: "The server is shutting down, or its sandbox does not work.",
}

_NO_PARAMETERS = {"body", "query", "path", "str", "int", "float", "bool"}
"""Parts that pydantic puts between the names of fields: the source of a value, and which of several types was tried."""
_TYPE_NAME = re.compile(r"[A-Z]|.*\[")
"""Likewise the name of a class, or of a type with parameters."""


class APIError(Exception):
    """An error that becomes the response to a request.

    Attributes:
        status: The HTTP status.
        message: The explanation for a person.
        code: The kind of error for a program.
        param: The field of the request that is wrong.
        headers: Further headers of the response.
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
        """Return the body of the response."""
        kind = _TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> Response:
        """Return the response."""
        return JSONResponse(self.body(), status_code=self.status, headers=self.headers)


class ErrorDetail(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(BaseModel):
    """The body of every response that reports an error."""

    error: ErrorDetail


ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody, "description": meaning} for status, meaning in _MEANINGS.items()
}
"""The OpenAPI description of the errors that an endpoint may respond with."""


def shutting_down() -> APIError:
    """Return the error that every request gets once the server shuts down."""
    message = "the server is shutting down; ask another one, or again later"
    return APIError(503, message, code="server_shutting_down", headers={"Retry-After": "5"})


def as_api_error(error: BaseException) -> APIError:
    """Return the error that the client gets for an exception; a fault of the server is logged with its traceback."""
    if isinstance(error, APIError):
        return error
    if isinstance(error, PromptError):
        code = "context_length_exceeded" if "tokens" in str(error) else "invalid_prompt"
        return APIError(400, str(error), code=code, param="messages")
    for kind, status, code in _FOR_THE_CALLER:
        if isinstance(error, kind):
            return APIError(status, str(error), code=code)
    _LOG.error("a request failed", exc_info=error)
    names = {cls.__name__ for cls in type(error).__mro__}
    status, message, code = next((known for name, known in _FOR_THE_OPERATOR.items() if name in names), _UNKNOWN)
    return APIError(status, message, code=code)


def add_error_handlers(app: FastAPI) -> None:
    """Give every error response of an application the same form."""

    @app.exception_handler(RequestValidationError)
    async def _invalid(_: Request, error: RequestValidationError) -> Response:
        return _validation_error(error.errors()).response()

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        message, code = str(error.detail), None
        if error.status_code == 404:
            message, code = _nothing_at(request, app), "not_found"
        return APIError(error.status_code, message, code=code, headers=error.headers).response()

    async def _raised(_: Request, error: Exception) -> Response:
        return as_api_error(error).response()

    for kind in (APIError, NADError, Exception):
        app.add_exception_handler(kind, _raised)


def _nothing_at(request: Request, app: FastAPI) -> str:
    """Return the message for an unknown path: the path that was probably meant, or else all paths of the server."""
    path = request.url.path
    found = {
        name: f"{next(iter(methods)).upper()} {name}"
        for name, methods in app.openapi()["paths"].items()
        if not name.startswith("/ui")
    }
    meant = "/v1/" + path.strip("/").split("v1/")[-1]
    if meant in found and meant != path:
        return f"there is no {path}, but there is {meant}; let the base URL of the client end in /v1, once"
    return f"there is no {path}; this server has {', '.join(found.values())}"


def _validation_error(problems: Sequence[Mapping[str, Any]]) -> APIError:
    problem = _most_specific(problems)
    if problem["type"] == "json_invalid":
        return APIError(400, "the body is no valid JSON", code="invalid_json")
    place = [part for part in map(str, problem["loc"]) if part not in _NO_PARAMETERS and not _TYPE_NAME.match(part)]
    param = ".".join(place) or None
    reason = str(problem["msg"]).removeprefix("Value error, ")
    message = f"{param}: {reason[:1].lower()}{reason[1:]}" if param else reason
    code = "missing_required_parameter" if problem["type"] == "missing" else "invalid_value"
    return APIError(400, message, code=code, param=param)


def _most_specific(problems: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the problem to report: where several types were tried, the one of the type that fits best."""
    same_field = [problem for problem in problems if problem["loc"][:2] == problems[0]["loc"][:2]]
    return max(same_field, key=lambda problem: (len(problem["loc"]), problem["type"] != "string_type"))
