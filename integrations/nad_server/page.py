"""The page at /ui, on which a user watches one prompt's candidates while they are written, and the page's own API."""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import AsyncGenerator
from contextlib import aclosing
from importlib.resources import files
from typing import Any

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import RedirectResponse, Response

from nad_agents.chat.output_spec import OutputSpec
from nad_agents.events import DecodingEvent, Finished, TextDelta
from nad_agents.exceptions import NADError
from nad_agents.selectors import CallableSelector, available_selectors, get_selector
from nad_server.errors import ERRORS, APIError
from nad_server.generate import client_of, generate_watched
from nad_server.json_response import JSONResponse
from nad_server.protocol import SamplingFields
from nad_server.request_builder import PreparedRequest, build_chat_request, build_text_request
from nad_server.sse import ServerSentEvent, event_stream
from nad_server.state import ServerState
from nad_server.unsupported_params import ignored_parameters

__all__ = ["router"]

router = APIRouter(tags=["page"])
_KINDS = {"": ("index.html", "text/html"), "page.js": ("page.js", "text/javascript"),
          "form.js": ("form.js", "text/javascript"), "matrix.js": ("matrix.js", "text/javascript"),
          "page.css": ("page.css", "text/css")}  # fmt: skip
_MAX_TOKENS_IN_FORM = 1024
"""Token limit with which the form starts: a candidate that is watched should end."""
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


class DecodeRequest(SamplingFields):
    """The body of POST /ui/api/decode; `nad` holds the options for selecting and pruning."""

    prompt: str = Field(min_length=1)
    max_tokens: int | None = Field(default=None, ge=1)

    @property
    def token_limit(self) -> int | None:
        """Token limit of each candidate; None leaves it to the server."""
        return self.max_tokens


@router.get("/ui", include_in_schema=False)
async def without_slash() -> Response:
    """Redirect to /ui/, because the page names its files relative to its own address."""
    return RedirectResponse("ui/", headers=_HEADERS)


@router.get("/ui/api/options", responses=ERRORS)
async def options(request: Request) -> Response:
    """Tell the page which model and selectors the server has, and with which settings its form starts."""
    state: ServerState = request.app.state.server
    decoder, settings = state.decoder, state.settings
    chosen = decoder.config.selector
    return JSONResponse(
        {
            "model": state.name,
            "n": decoder.sampling.n,
            "max_candidates": settings.max_candidates,
            "max_tokens": min(settings.max_tokens, _MAX_TOKENS_IN_FORM),
            "temperature": decoder.sampling.temperature,
            "selector": chosen if isinstance(chosen, str) else "auto",
            "selectors": [{"name": name, "description": text} for name, text in _described_selectors(state).items()],
            "similarity": decoder.config.similarity,
            "pruning": decoder.config.pruning,
            "verify": state.verifier is not None,
            "keep_alive_seconds": settings.keep_alive_seconds,
        }
    )


@router.get("/ui/{name}", include_in_schema=False)
@router.get("/ui/", include_in_schema=False)
async def file(name: str = "") -> Response:
    """Serve one of the page's files; any other name is answered with 404."""
    if name not in _KINDS:
        raise APIError(404, "the page has no such file", code="not_found")
    path, kind = _KINDS[name]
    return Response(files("nad_server").joinpath("ui", path).read_bytes(), media_type=kind, headers=_HEADERS)


@router.post("/ui/api/decode", responses={200: {"content": {"text/event-stream": {}}}, **ERRORS})
async def decode(request: Request, body: DecodeRequest) -> Response:
    """Answer a prompt by server-sent events about every candidate; they are named after `nad_agents.events`."""
    state: ServerState = request.app.state.server
    ignored_parameters(body)  # refuses unsupported parameters
    state = state.serving(body.model)
    nad = state.options(body.model, body.nad)

    def build() -> PreparedRequest:
        if state.decoder.loaded.tokenizer.chat_template is None:
            return build_text_request(state, body, nad, body.prompt)
        messages = [{"role": "user", "content": body.prompt}]
        return build_chat_request(state, body, nad, messages, OutputSpec(), param="prompt")

    prepared = await state.run_in_thread(build)
    return event_stream(
        request,
        _frames(state, prepared, client_of(request)),
        failed=lambda error: ServerSentEvent.of(error.body(), "failed"),
        done="",
    )


async def _frames(state: ServerState, prepared: PreparedRequest, client: str) -> AsyncGenerator[str]:
    config = prepared.config
    told = {"n": prepared.sampling.n, "max_tokens": prepared.sampling.max_new_tokens, "pruning": config.pruning}
    yield ServerSentEvent.of(
        {**told, "selector": str(getattr(config.selector, "name", config.selector)), "chunk_size": config.chunk_size},
        "queued",
    )
    async with aclosing(generate_watched(state, prepared, client)) as events:
        async for event in events:
            if event is None:
                yield ServerSentEvent.of({}, "started")
            elif not isinstance(event, TextDelta):  # the growth of the candidates has it already
                yield ServerSentEvent.of(_finite(_content(event)), type(event).__name__.lower())


def _content(event: DecodingEvent) -> dict[str, Any]:
    if isinstance(event, Finished):
        return event.selection.model_dump(exclude={"text"})
    return dataclasses.asdict(event)


def _finite(value: Any) -> Any:
    """Return a value with None in place of NaN and infinity, which JSON does not have."""
    if isinstance(value, dict):
        return {str(key): _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _described_selectors(state: ServerState) -> dict[str, str]:
    """Describe the selectors that work without options that a page cannot give.

    Returns:
        For each selector's name the summary line of its class or function; "" where it has no docstring.
    """
    found = {}
    for name in available_selectors():
        options = {"runner": state.runner} if name.startswith("behaviour") else {}
        try:
            selector = get_selector(name, **options)
        except NADError:
            continue
        described = selector.function if isinstance(selector, CallableSelector) else type(selector)
        summary = inspect.cleandoc(described.__doc__ or "").partition("\n\n")[0]
        found[name] = " ".join(summary.replace("`", "").split())
    return found
