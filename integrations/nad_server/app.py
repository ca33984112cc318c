"""The application: endpoints, and what stands before them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from nad_agents._version import __version__
from nad_agents.exceptions import ConfigurationError
from nad_agents.verification import Verifier
from nad_server import chat, completions, operations, page, responses
from nad_server.admission import Admission
from nad_server.errors import add_error_handlers
from nad_server.metrics import Metrics
from nad_server.middleware import BodyLimit, HostCheck, KeyCheck, _Counting
from nad_server.settings import ServerSettings
from nad_server.state import ServerState

if TYPE_CHECKING:
    from nad_agents.decoder import NeuronAgreementDecoder

__all__ = ["create_app"]


def create_app(
    decoder: NeuronAgreementDecoder,
    settings: ServerSettings | None = None,
    *,
    verifier: Verifier | None = None,
    runner: Any = None,
    sandbox: Any = None,
) -> FastAPI:
    """An OpenAI-compatible application over a decoder.

    Args:
        decoder: answers; its sampling and its config are what requests start from. It must have no verifier of its
            own, since a request may ask for none.
        settings: the operator's decisions.
        verifier: checks candidates; it has to run what they wrote in isolation.
        runner: a `nad_sandbox.BehaviourRunner`, for requests that ask for the selector `behaviour`.
        sandbox: where these run code; it is closed when the server stops, so that no program holds that up.

    Raises:
        ConfigurationError: the decoder has a verifier.
    """
    if decoder.verifier is not None:
        msg = "the decoder has a verifier of its own; give it to create_app(verifier=...) instead"
        raise ConfigurationError(msg)
    settings = settings or ServerSettings()
    state = ServerState(
        decoder=decoder,
        settings=settings,
        admission=Admission(settings.max_rows, settings.max_waiting),
        metrics=Metrics(),
        verifier=verifier,
        runner=runner,
        sandbox=sandbox,
    )
    watch, admission = state.metrics.watch, state.admission
    watch("nad_requests_running", "Requests that were let in and are not answered", lambda: admission.running)
    watch("nad_requests_waiting", "Requests in the queue", lambda: admission.waiting)
    watch("nad_batch_rows", "Candidates that are being written", lambda: decoder.engine.rows)
    watch("nad_batch_steps", "How often the batch was advanced, by a chunk or less", lambda: decoder.steps)
    app = FastAPI(
        title="nad-agents",
        version=__version__,
        description="The best of N candidates of a local model, chosen by neuron agreement, over OpenAI's protocol.",
        redoc_url=None,
    )
    app.state.server = state
    for endpoints in (chat, completions, responses, operations):
        app.include_router(endpoints.router)
    if settings.ui:
        app.include_router(page.router)
    add_error_handlers(app)
    # the last one added is the first that a request meets
    app.add_middleware(BodyLimit, limit=settings.max_body_bytes)
    app.add_middleware(KeyCheck, keys=settings.api_keys)
    app.add_middleware(HostCheck, hosts=settings.hosts)
    app.add_middleware(_Counting, metrics=state.metrics)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
        )
    return app
