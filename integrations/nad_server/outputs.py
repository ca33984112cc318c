"""An answer taken apart for a client: its text, its tool calls, why it ended."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from nad_agents.chat.evidence import evidence
from nad_agents.chat.response_parser import ResponseParser
from nad_agents.rollouts import Rollout
from nad_server.generate import RequestOutput

__all__ = ["FunctionToolCall", "GrowingText", "ParsedOutput", "evidence_of", "parsed_output", "usage_of"]

_ARGUMENT_PIECE = 24


@dataclass(frozen=True)
class FunctionToolCall:
    """A tool call.

    Attributes:
        id: what its result will refer to.
        name: of the function.
        arguments: JSON text; as the model wrote it where it is malformed.
    """

    id: str
    name: str
    arguments: str

    def argument_pieces(self) -> Iterator[str]:
        """The arguments in pieces, for streaming."""
        for at in range(0, len(self.arguments), _ARGUMENT_PIECE):
            yield self.arguments[at : at + _ARGUMENT_PIECE]


@dataclass(frozen=True)
class ParsedOutput:
    """One of the answers that are returned.

    Attributes:
        text: without the calls.
        calls: tool calls.
        finish_reason: in OpenAI's words.
        thinking: what the model wrote for itself.
    """

    text: str
    calls: tuple[FunctionToolCall, ...]
    finish_reason: str
    thinking: str = ""


def parsed_output(rollout: Rollout, parser: ResponseParser, *, parallel: bool = True) -> ParsedOutput:
    """Take an answer apart.

    Args:
        rollout: the answer.
        parser: of the prepared.
        parallel: False leaves the first of several calls.
    """
    ended = "stop" if rollout.finish_reason == "stop" else "length"
    parsed = parser.parse(rollout.text)
    calls = [
        FunctionToolCall(call.id, call.name, json.dumps(call.arguments, ensure_ascii=False)) for call in parsed.calls
    ]
    # a client may be able to do something with arguments that break off, but not without a name
    calls += [FunctionToolCall(call.id, call.name, call.text) for call in parsed.invalid if call.name]
    if parsed.invalid and not calls:
        return ParsedOutput(rollout.text, (), ended)
    calls = calls if parallel else calls[:1]
    return ParsedOutput(parsed.content, tuple(calls), "tool_calls" if calls else ended, parsed.thinking)


class GrowingText:
    """The part of a growing answer that is sure to be text or thinking and no tool call, as it becomes so.

    Attributes:
        sent: characters of the text so far.
        thought: characters of the thinking so far, which comes before the text.

    Args:
        parser: of the prepared.
    """

    def __init__(self, parser: ResponseParser) -> None:
        self._parser = parser
        self._text = ""
        self.sent = 0
        self.thought = 0

    def add(self, text: str) -> tuple[str, str]:
        """Thinking and text that may be sent after some more text came."""
        self._text += text
        certain = self._parser.stable_prefix(self._text)
        thinking, content = certain.thinking[self.thought :], certain.content[self.sent :]
        self.thought += len(thinking)
        self.sent += len(content)
        return thinking, content


def usage_of(answers: list[RequestOutput]) -> dict[str, Any]:
    """Tokens of the prompts, and of the answers that are returned; those of all candidates are in the evidence."""
    prompt = sum(a.selection.usage.prompt_tokens for a in answers)
    completion = sum(len(rollout) for a in answers for rollout in a.chosen)
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def evidence_of(answer: RequestOutput) -> dict[str, Any]:
    """Why the answers were chosen."""
    return evidence(answer.selection, include_candidates=answer.prepared.include_candidates)
