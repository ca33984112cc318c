"""What the endpoints' responses have in common: parsed outputs, usage and evidence."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from nad_agents.chat.evidence import evidence
from nad_agents.chat.response_parser import ResponseParser
from nad_agents.rollouts import Rollout
from nad_server.generate import RequestOutput

__all__ = ["FunctionToolCall", "ParsedOutput", "evidence_of", "parse_output", "usage_of"]

_DELTA_CHARACTERS = 24


@dataclass(frozen=True)
class FunctionToolCall:
    """A tool call.

    Attributes:
        id: The id that the call's result will refer to.
        name: The name of the function.
        arguments: The arguments as JSON; where they are malformed, as the model wrote them.
        cut: Whether the token limit ended the answer within the arguments.
    """

    id: str
    name: str
    arguments: str
    cut: bool = False

    def argument_deltas(self) -> Iterator[str]:
        """Yield the arguments in parts, for streaming."""
        for start in range(0, len(self.arguments), _DELTA_CHARACTERS):
            yield self.arguments[start : start + _DELTA_CHARACTERS]


@dataclass(frozen=True)
class ParsedOutput:
    """One choice of a response.

    Attributes:
        text: The text, without the calls.
        calls: The tool calls.
        finish_reason: Why the answer ended, in OpenAI's words.
        thinking: The model's reasoning before its answer.
    """

    text: str
    calls: tuple[FunctionToolCall, ...]
    finish_reason: str
    thinking: str = ""


def parse_output(rollout: Rollout, parser: ResponseParser, *, parallel: bool = True) -> ParsedOutput:
    """Parse a candidate into text, thinking and calls.

    Args:
        rollout: The candidate.
        parser: The parser of the request, from `PreparedChat`.
        parallel: Whether several calls are kept, or the first one alone.
    """
    finish_reason = "stop" if rollout.finish_reason == "stop" else "length"
    answer = parser.parse(rollout.text)
    calls = [
        FunctionToolCall(call.id, call.name, json.dumps(call.arguments, ensure_ascii=False)) for call in answer.calls
    ]
    # a client may be able to use arguments that break off, but no call without a name
    named = [call for call in answer.invalid if call.name]
    for call in named:
        cut = finish_reason == "length" and call is answer.invalid[-1]
        calls.append(FunctionToolCall(call.id, str(call.name), call.text, cut=cut))
    if answer.invalid and not calls:
        return ParsedOutput(rollout.text, (), finish_reason)
    # the limit may have cut a call that is left out
    whole = finish_reason == "stop" or (not parallel and len(calls) > 1 and not calls[0].cut)
    calls = calls if parallel else calls[:1]
    if calls and whole:
        finish_reason = "tool_calls"
    return ParsedOutput(answer.content, tuple(calls), finish_reason, thinking=answer.thinking)


def usage_of(outputs: list[RequestOutput]) -> dict[str, Any]:
    """Return the tokens of the prompts and of the choices; those of all candidates are in the evidence."""
    prompt = sum(output.selection.usage.prompt_tokens for output in outputs)
    completion = sum(len(rollout) for output in outputs for rollout in output.chosen)
    return {
        "prompt_tokens": prompt,
        "prompt_tokens_details": {"cached_tokens": sum(o.selection.usage.cached_tokens for o in outputs)},
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def evidence_of(output: RequestOutput) -> dict[str, Any]:
    """Return why the choices of a response were chosen, and what of the request was ignored if anything was."""
    found = evidence(output.selection, include_candidates=output.prepared.include_candidates)
    return {**found, "ignored": list(output.prepared.ignored)} if output.prepared.ignored else found
