"""GET /v1/models, /health and /metrics: what clients and operators ask about the server itself."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import PlainTextResponse, Response

from nad_agents.exceptions import GenerationError
from nad_server.errors import ERRORS, APIError
from nad_server.json_response import JSONResponse
from nad_server.state import ServerState

__all__ = ["router"]

_LOG = logging.getLogger("nad_server")

router = APIRouter()
_UNAUTHORIZED: dict[int | str, dict[str, Any]] = {401: ERRORS[401]}


@router.get("/v1/models", tags=["OpenAI"], responses=ERRORS)
async def models(request: Request) -> Response:
    """List the model under each of its names."""
    state: ServerState = request.app.state.server
    return JSONResponse({"object": "list", "data": [_model_object(state.serving(name), name) for name in state.names]})


@router.get("/v1/models/{model:path}", tags=["OpenAI"], responses=ERRORS)
async def model(request: Request, model: str) -> Response:
    """Describe the model; its name may have options behind it."""
    state: ServerState = request.app.state.server
    served = state.serving(model)
    served.options(model, None)
    return JSONResponse(_model_object(served, model))


def _model_object(state: ServerState, name: str) -> dict[str, Any]:
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
    """Report whether the server takes requests and its engine works; this needs no API key."""
    state: ServerState = request.app.state.server
    try:
        state.admission.check()
    except APIError as error:
        # a full queue passes, and a shutdown does not
        if error.status != 429:
            return JSONResponse({"status": "stopping"}, status_code=503)
    try:
        await state.check_health()
    except GenerationError:
        _LOG.exception("the engine is dead")
        return JSONResponse({"status": "dead"}, status_code=503)
    counts = {
        "running": state.admission.running,
        "waiting": state.admission.waiting,
        "prompt_tokens_left": sum(decoder.prompt_tokens_left for decoder in state.decoders),
    }
    return JSONResponse({"status": "ok", **counts})


@router.get("/metrics", tags=["operation"], response_class=PlainTextResponse, responses=_UNAUTHORIZED)
async def metrics(request: Request) -> Response:
    """Return the metrics in Prometheus' text format."""
    state: ServerState = request.app.state.server
    return Response(state.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")
