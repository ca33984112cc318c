"""GET /v1/models, /health and /metrics."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import PlainTextResponse, Response

from nad_server.errors import ERRORS, APIError, JSONAnswer
from nad_server.state import ServerState

__all__ = ["router"]

router = APIRouter()
_REFUSED: dict[int | str, dict[str, Any]] = {401: ERRORS[401]}


@router.get("/v1/models", tags=["OpenAI"], responses=ERRORS)
async def models(request: Request) -> Response:
    """The model, under each of its names."""
    state: ServerState = request.app.state.server
    return JSONAnswer({"object": "list", "data": [_model(state, name) for name in state.names]})


@router.get("/v1/models/{model:path}", tags=["OpenAI"], responses=ERRORS)
async def model(request: Request, model: str) -> Response:
    """One model; options behind its name are allowed."""
    state: ServerState = request.app.state.server
    state.options(model, None)
    return JSONAnswer(_model(state, model))


def _model(state: ServerState, name: str) -> dict[str, Any]:
    decoder = state.decoder
    return {
        "id": name,
        "object": "model",
        "created": state.started,
        "owned_by": "nad-agents",
        "max_model_len": decoder.loaded.context_length,
        "nad": {"n": decoder.sampling.n, "selector": str(decoder.config.selector), "verify": bool(state.verifier)},
    }


@router.get("/health", tags=["operation"])
async def health(request: Request) -> Response:
    """Whether the server takes requests; needs no key."""
    state: ServerState = request.app.state.server
    try:
        state.admission.check()
    except APIError as error:
        # a full queue passes, a shutdown does not
        if error.status != 429:
            return JSONAnswer({"status": "stopping"}, status_code=503)
    counts = {"running": state.admission.running, "waiting": state.admission.waiting}
    return JSONAnswer({"status": "ok", **counts})


@router.get("/metrics", tags=["operation"], response_class=PlainTextResponse, responses=_REFUSED)
async def metrics(request: Request) -> Response:
    """Counters in Prometheus' text format."""
    state: ServerState = request.app.state.server
    return Response(state.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")
