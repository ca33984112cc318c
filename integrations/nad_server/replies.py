"""An answer taken apart for a client: its text, its tool calls, why it ended."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from nad_agents.rollouts import Rollout
from nad_server.answering import Answer
from nad_server.asking import AnswerReader, evidence

__all__ = ["Call", "GrowingText", "Part", "evidence_of", "part_of", "usage_of"]

_ARGUMENT_PIECE = 24


@dataclass(frozen=True)
class Call:
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
class Part:
    """One of the answers that are returned.

    Attributes:
        text: without the calls.
        calls: tool calls.
        finish_reason: in OpenAI's words.
        thinking: what the model wrote for itself.
    """

    text: str
    calls: tuple[Call, ...]
    finish_reason: str
    thinking: str = ""


def part_of(rollout: Rollout, reader: AnswerReader, *, parallel: bool = True) -> Part:
    """Take an answer apart.

    Args:
        rollout: the answer.
        reader: of the question.
        parallel: False leaves the first of several calls.
    """
    ended = "stop" if rollout.finish_reason == "stop" else "length"
    parsed = reader.read(rollout.text)
    calls = [Call(str(call["id"]), call["name"], json.dumps(call["args"], ensure_ascii=False)) for call in parsed.calls]
    # a client may be able to do something with arguments that break off, but not without a name
    calls += [Call(str(c["id"]), c["name"], c["args"] or "") for c in parsed.invalid if c["name"]]
    if parsed.invalid and not calls:
        return Part(rollout.text, (), ended)
    calls = calls if parallel else calls[:1]
    return Part(parsed.content, tuple(calls), "tool_calls" if calls else ended, parsed.thinking)


class GrowingText:
    """The part of a growing answer that is sure to be text or thinking and no tool call, as it becomes so.

    Attributes:
        sent: characters of the text so far.
        thought: characters of the thinking so far, which comes before the text.

    Args:
        reader: of the question.
    """

    def __init__(self, reader: AnswerReader) -> None:
        self._reader = reader
        self._text = ""
        self.sent = 0
        self.thought = 0

    def add(self, text: str) -> tuple[str, str]:
        """Thinking and text that may be sent after some more text came."""
        self._text += text
        certain = self._reader.certain(self._text)
        thinking, content = certain.thinking[self.thought :], certain.content[self.sent :]
        self.thought += len(thinking)
        self.sent += len(content)
        return thinking, content


def usage_of(answers: list[Answer]) -> dict[str, Any]:
    """Tokens of the prompts, and of the answers that are returned; those of all candidates are in the evidence."""
    prompt = sum(a.selection.usage.prompt_tokens for a in answers)
    completion = sum(len(rollout) for a in answers for rollout in a.chosen)
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def evidence_of(answer: Answer) -> dict[str, Any]:
    """Why the answers were chosen."""
    return evidence(answer.selection, include_candidates=answer.question.include_candidates)
