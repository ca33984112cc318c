"""One call of the chat model: what was asked, the run, and the message made of its selection."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.utils.json import parse_partial_json

from langchain_nad.answers import response_metadata, usage_metadata
from langchain_nad.fields import Settings
from langchain_nad.replies import Reply
from langchain_nad.runs import Run
from langchain_nad.tool_calls import ParsedAnswer, certain_text, growing_calls, new_call_id, parse_answer
from nad_agents.events import DecodingEvent, Finished, TextDelta
from nad_agents.types import Selection
from nad_agents.verification import Verdict, Verifier

__all__ = ["Call", "CallsPass"]


@dataclass(eq=False)
class Call:
    """A submitted call.

    Attributes:
        run: on the decoder.
        settings: what it runs with.
        reply: what kind of answer was asked for.
    """

    run: Run
    settings: Settings
    reply: Reply
    _text: str = field(default="", init=False)
    _sent: str = field(default="", init=False)
    _arguments: list[str] = field(default_factory=list, init=False)

    def cancel(self) -> None:
        """Stop generating within a chunk."""
        self.run.cancel()

    def message(self, selection: Selection) -> AIMessage:
        """The whole answer."""
        parsed = self._parse(selection.text)
        return AIMessage(
            content=parsed.content,
            tool_calls=list(parsed.calls),
            invalid_tool_calls=list(parsed.invalid),
            response_metadata=self._metadata(selection, parsed),
            usage_metadata=usage_metadata(selection),
        )

    def chunks(self, event: DecodingEvent) -> Iterator[ChatGenerationChunk]:
        """What a streaming caller gets of an event.

        Text that may be part of a tool call is held back until it is decided. Calls that were forced grow as they are
        written; others come whole, one chunk each, since only then it is certain that they are calls. Usage and
        evidence come once, with the last chunk.
        """
        if isinstance(event, TextDelta):
            self._text += event.text
            if self._growing:
                yield from self._calls_up_to(self._text)
            elif self.reply.tools:
                yield from self._text_up_to(certain_text(self._text, self.reply.names))
            else:
                yield from self._text_up_to(self._text)
        elif isinstance(event, Finished):
            parsed = self._parse(event.selection.text)
            yield from self._text_up_to(parsed.content)
            if self._growing:
                yield from self._calls_up_to(event.selection.text)
            else:
                yield from (_call_chunk(index, **chunk) for index, chunk in enumerate(_call_chunks(parsed)))
            last = AIMessageChunk(
                content="",
                response_metadata=self._metadata(event.selection, parsed),
                usage_metadata=usage_metadata(event.selection),
                chunk_position="last",
            )
            yield ChatGenerationChunk(message=last)

    def _text_up_to(self, text: str) -> Iterator[ChatGenerationChunk]:
        if len(text) > len(self._sent) and text.startswith(self._sent):
            yield ChatGenerationChunk(message=AIMessageChunk(content=text[len(self._sent) :]))
            self._sent = text

    @property
    def _growing(self) -> bool:
        """Whether the answer is nothing but calls, which nothing but the grammar ends."""
        return self.reply.forced and not self.settings.sampling.stop

    def _calls_up_to(self, text: str) -> Iterator[ChatGenerationChunk]:
        for index, (name, arguments) in enumerate(growing_calls(text)):
            if index == len(self._arguments):
                self._arguments.append("")
                yield _call_chunk(index, name=name, args="", id=new_call_id())
            sent = len(self._arguments[index])
            if len(arguments) > sent:
                yield _call_chunk(index, name=None, args=arguments[sent:], id=None)
                self._arguments[index] = arguments

    def _parse(self, text: str) -> ParsedAnswer:
        return parse_answer(text, self.reply.names) if self.reply.tools else ParsedAnswer(text)

    def _metadata(self, selection: Selection, parsed: ParsedAnswer) -> dict[str, Any]:
        return response_metadata(
            selection,
            model=self.settings.model,
            include_candidates=self.settings.include_candidates,
            finish_reason="tool_calls" if parsed.calls else None,
        )


def _call_chunks(parsed: ParsedAnswer) -> Iterator[dict[str, str | None]]:
    for call in parsed.calls:
        yield {"name": call["name"], "args": json.dumps(call["args"], ensure_ascii=False), "id": call["id"]}
    for invalid in parsed.invalid:
        yield {"name": invalid["name"], "args": _unreadable(invalid["args"] or ""), "id": invalid["id"]}


def _call_chunk(index: int, *, name: str | None, args: str | None, id: str | None) -> ChatGenerationChunk:  # noqa: A002 - LangChain's name
    chunk = tool_call_chunk(name=name, args=args, id=id, index=index)
    return ChatGenerationChunk(message=AIMessageChunk(content="", tool_call_chunks=[chunk]))


def _unreadable(arguments: str) -> str:
    """Broken arguments so that a merged stream calls them invalid: langchain-core would complete what breaks off."""
    try:
        readable = not arguments or isinstance(parse_partial_json(arguments), dict)
    except ValueError:
        readable = False
    return json.dumps(arguments, ensure_ascii=False) if readable else arguments


@dataclass(frozen=True)
class _Accepted:
    """The verdict on a tool call: nothing to check yet."""

    passed: bool = True
    feedback: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {"passed": True, "feedback": "", "reason": "a tool call is not checked"}


@dataclass(frozen=True)
class CallsPass:
    """Lets answers that call a tool pass, and leaves the others to a verifier.

    Attributes:
        verifier: judges answers that are no calls.
        names: tools on offer.
    """

    verifier: Verifier
    names: tuple[str, ...]

    def verify(self, answer: str, *, prompt: str = "") -> Verdict:
        """Judge an answer."""
        return _Accepted() if parse_answer(answer, self.names).calls else self.verifier.verify(answer, prompt=prompt)

    def fingerprint(self, answer: str) -> str:
        """Key of answers that must get the same verdict."""
        return answer if parse_answer(answer, self.names).calls else self.verifier.fingerprint(answer)
