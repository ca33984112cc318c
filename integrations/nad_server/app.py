"""The application: its endpoints and the middleware before them."""

from __future__ import annotations

from collections.abc import Mapping
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
from nad_server.middleware import APIKeyCheck, BodyLimit, HostCheck, RequestMetrics
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
    adapters: Mapping[str, NeuronAgreementDecoder] | None = None,
) -> FastAPI:
    """Make an application that serves a decoder over OpenAI's protocol.

    Args:
        decoder: The decoder that generates the answers; its `sampling` and `config` hold wherever a request sets
            nothing else. It must have no verifier of its own, since a request may ask for no checks.
        settings: The operator's settings.
        verifier: Checks candidates; it has to isolate the code that it runs.
        runner: A `nad_sandbox.BehaviourRunner`, for requests that ask for the selector `behaviour`.
        sandbox: The sandbox of the verifier and the runner. It is closed when the server stops, so that no program
            delays the end.
        adapters: Decoders of the same model, each with its own adapter, by the names that requests use for them.
            `decoder.with_adapter(...)` makes such a decoder. All decoders share the queue.

    Raises:
        ConfigurationError: A decoder has a verifier, or an adapter has the name of the model.
    """
    adapters = dict(adapters or {})
    if any(one.verifier is not None for one in (decoder, *adapters.values())):
        msg = "the decoder has a verifier of its own; give it to create_app(verifier=...) instead"
        raise ConfigurationError(msg)
    settings = settings or ServerSettings()
    rows = decoder.max_rows if settings.max_rows == "auto" else settings.max_rows
    state = ServerState(
        decoder=decoder,
        settings=settings,
        admission=Admission(rows, settings.max_waiting),
        metrics=Metrics(),
        verifier=verifier,
        runner=runner,
        sandbox=sandbox,
        adapters=adapters,
    )
    if len(set(state.names)) < len(state.names):
        msg = f"the names {', '.join(state.names)} are not all different; give each adapter a name of its own"
        raise ConfigurationError(msg)
    decoders = state.decoders
    add_gauge, admission = state.metrics.add_gauge, state.admission
    add_gauge("nad_requests_running", "Requests that were let in and are not answered", lambda: admission.running)
    add_gauge("nad_requests_waiting", "Requests in the queue", lambda: admission.waiting)
    add_gauge("nad_batch_rows", "Candidates that are being written", lambda: sum(one.engine.rows for one in decoders))
    add_gauge(
        "nad_prompt_tokens_left",
        "Tokens still to be read of the prompts being read",
        lambda: sum(one.prompt_tokens_left for one in decoders),
    )
    add_gauge(
        "nad_batch_steps",
        "How often a batch was advanced, by a chunk or less",
        lambda: sum(one.steps for one in decoders),
    )
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
    # the last one added is the first to see a request
    app.add_middleware(BodyLimit, limit=settings.max_body_bytes)
    app.add_middleware(APIKeyCheck, keys=settings.api_keys)
    app.add_middleware(HostCheck, hosts=settings.hosts)
    app.add_middleware(RequestMetrics, metrics=state.metrics)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
        )
    return app
