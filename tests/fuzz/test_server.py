"""Requests made up from the server's own OpenAPI description: wrong ones are refused, none breaks the server."""

import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, status_code_conformance

from tests.unit.langchain.chats import one_layer_model
from tests.unit.server.servers import make_app

# a request may ask for as many tokens as the model has positions
app = make_app(model=one_layer_model(max_position_embeddings=512), max_tokens=4, max_candidates=4, ui=True)
description = schemathesis.openapi.from_asgi("/openapi.json", app)


REFUSED_AT_RANDOM = ("chat_template_kwargs", "enable_thinking", "reasoning_effort", "reasoning", "include")


def sent(case):
    """Let some requests through to the model: random names of models and selectors end at once."""
    body = case.body
    if isinstance(body, dict) and "model" in body:
        body["model"] = "tiny"
        if isinstance(nad := body.get("nad"), dict):
            nad.pop("selector", None)
            nad.pop("verify", None)
        if len(str(body)) % 2:
            for name in ("nad", *REFUSED_AT_RANDOM):
                body.pop(name, None)
    case.call_and_validate(checks=[not_a_server_error, status_code_conformance, content_type_conformance])


@description.parametrize()
@settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_nothing_breaks_the_server(case):
    sent(case)


def test_some_requests_were_answered():
    """Run after the others: refusing everything would be no test."""
    text = app.state.server.metrics.text().decode()
    for path in ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/ui/api/decode"):
        assert f'nad_requests_total{{endpoint="{path}",status="200"}}' in text, text
