"""Convert a generation request to the body of a request of OpenAI's protocol; refuse options that it cannot express."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from nad_agents.constrained.structured_output import StructuredOutput
from nad_agents.engine.base import GenerationRequest
from nad_agents.exceptions import ConfigurationError
from nad_agents.types import SamplingConfig

__all__ = ["check_supported", "request_body"]


def check_supported(request: GenerationRequest) -> None:
    """Refuse options that the protocol cannot express, before any request is sent.

    Raises:
        ConfigurationError: An option cannot be expressed; the message names it and an alternative.
    """
    if request.recording is not None:
        msg = "an OpenAI-compatible server gives no neurons; set record=False and a selector that needs none"
        raise ConfigurationError(msg)
    for processor in request.logits_processors:
        if not isinstance(processor, StructuredOutput):
            msg = f"{type(processor).__name__} runs inside a model, which is not at hand here; use engine='hf'"
            raise ConfigurationError(msg)
        if processor.json_schema is None:
            msg = (
                "engine='openai' holds answers to a JSON schema only, and not to forced tool calls, patterns or "
                "choices; set tool_choice='auto', or use engine='hf' or 'vllm'"
            )
            raise ConfigurationError(msg)
    if request.sampling.generation_options:
        name = next(iter(request.sampling.generation_options))
        msg = f"generation option {name!r} is one of transformers; engine='openai' cannot send it, leave it out"
        raise ConfigurationError(msg)


def request_body(
    request: GenerationRequest, seed: int, *, model: str, logprobs: bool, top_logprobs: int
) -> dict[str, Any]:
    """Return the body of the request for one candidate.

    Options that the protocol has no field for (top_k, min_p, repetition_penalty) are sent, if they differ from their
    defaults, under the names that vLLM, llama.cpp, Ollama and LM Studio use; other servers refuse or ignore them.

    Args:
        request: The request.
        seed: Seed of the candidate's random stream; its last 31 bits are sent.
        model: Name of the model at the server.
        logprobs: Whether to request log-probabilities.
        top_logprobs: Number of likeliest tokens whose log-probabilities are also requested.
    """
    sampling = request.sampling
    body: dict[str, Any] = {
        "model": model,
        "max_tokens": sampling.max_new_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": seed & 0x7FFFFFFF,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    fields = SamplingConfig.model_fields
    body["extra_body"] = {
        name: getattr(sampling, name)
        for name in ("top_k", "min_p", "repetition_penalty")
        if getattr(sampling, name) != fields[name].default
    }
    if request.raw:
        return body | {"prompt": request.conversation} | ({"logprobs": top_logprobs} if logprobs else {})
    conversation = request.conversation
    messages = [{"role": "user", "content": conversation}] if isinstance(conversation, str) else conversation
    body |= {"messages": [_in_protocol(message) for message in messages]}
    if logprobs:
        body["logprobs"] = True
    if top_logprobs:
        body["top_logprobs"] = top_logprobs
    if request.tools:
        body["tools"] = list(request.tools)
    for processor in request.logits_processors:
        schema = {"name": "answer", "schema": dict(processor.json_schema), "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    return body


def _in_protocol(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message with the arguments of its tool calls as JSON text; chat templates take objects."""
    if not message.get("tool_calls"):
        return dict(message)
    calls = []
    for call in message["tool_calls"]:
        function = call["function"]
        arguments = function["arguments"]
        text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
        calls.append({**call, "function": {**function, "arguments": text}})
    return {**message, "tool_calls": calls}
