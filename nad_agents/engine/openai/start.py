"""Connect to a server with OpenAI's protocol, for `OpenAIEngine`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nad_agents.engine.openai.engine import OpenAIEngine
from nad_agents.engine.served_model import ServedModel
from nad_agents.exceptions import ConfigurationError, MissingDependencyError
from nad_agents.testing.models import byte_tokenizer

__all__ = ["connect_openai"]

_OPTIONS = ("base_url", "api_key", "logprobs", "top_logprobs", "timeout", "headers")

_TEMPLATE = (
    "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}\n{% endfor %}"
    "{% if tools %}{{ tools | tojson }}<tool_call></tool_call>{% endif %}"
)
"""Placeholder for the chat template, which only the server has; it shows how the engine writes tool calls."""


def connect_openai(model: str | Path, *, max_rows: int, options: Mapping[str, Any]) -> OpenAIEngine:
    """Prepare the connections to a server without sending anything yet.

    Args:
        model: Name of the model at the server.
        max_rows: Greatest number of requests that are sent at the same time.
        options: `base_url` (default: $OPENAI_BASE_URL), `api_key` (default: $OPENAI_API_KEY), `logprobs` (False for a
            server that gives no log-probabilities), `top_logprobs` (20 for the selector deepconf; 0 by default, as not
            every server gives them), `timeout` in seconds, and `headers`.

    Raises:
        MissingDependencyError: The client is not installed.
        ConfigurationError: An option is unknown, or no server is named.
    """
    try:
        import openai
    except ImportError as error:
        msg = "engine='openai' needs OpenAI's client; install it with: pip install 'nad-agents[openai]'"
        raise MissingDependencyError(msg) from error
    for name in options:
        if name not in _OPTIONS:
            msg = f"engine='openai' has no option {name!r}; known are {', '.join(_OPTIONS)}"
            raise ConfigurationError(msg)
    base_url = options.get("base_url") or os.environ.get("OPENAI_BASE_URL")
    if not base_url:
        msg = (
            "engine='openai' needs the address of a server: engine_options={'base_url': 'http://localhost:11434/v1'}, "
            "--url, or $OPENAI_BASE_URL"
        )
        raise ConfigurationError(msg)
    client = openai.OpenAI(
        base_url=str(base_url),
        # local servers need no key, but the client requires one
        api_key=options.get("api_key") or os.environ.get("OPENAI_API_KEY") or "none",
        default_headers=options.get("headers"),
        timeout=options.get("timeout", openai.NOT_GIVEN),
        max_retries=1,
    )
    tokenizer = byte_tokenizer(chat_template=_TEMPLATE)
    loaded = ServedModel(
        tokenizer=tokenizer,
        name=str(model),
        source="server",
        path=Path(),
        context_length=None,
        vocabulary_size=len(tokenizer),
        end_tokens=(0,),
        architecture="unknown",
        dtype="unknown",
        device=str(base_url),
        engine="openai",
    )
    logprobs = bool(options.get("logprobs", True))
    top_logprobs = int(options.get("top_logprobs", 0)) if logprobs else 0
    return OpenAIEngine(client, loaded, max_rows=max_rows, logprobs=logprobs, top_logprobs=top_logprobs)
