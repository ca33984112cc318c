"""One call of the chat model: what was asked, the run, and the message made of its selection."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.utils.json import parse_partial_json

from langchain_nad.answers import response_metadata, usage_metadata
from langchain_nad.errors import AnswerCutError
from langchain_nad.fields import Settings
from langchain_nad.readers import AnswerReader
from langchain_nad.replies import Reply
from langchain_nad.runs import Run
from langchain_nad.tool_calls import ParsedAnswer, growing_calls, new_call_id
from nad_agents.events import DecodingEvent, Finished, TextDelta
from nad_agents.types import Selection
from nad_agents.verification import Verdict, Verifier

__all__ = ["Call", "CallsPass"]

_Field = Literal["content", "thinking"]
_THINKING = "reasoning_content"
"""Where langchain-core looks for what a model thought, to make a content block of it."""


@dataclass(eq=False)
class Call:
    """A submitted call.

    Attributes:
        run: on the decoder.
        settings: what it runs with.
        reply: what kind of answer was asked for.
        reader: takes answers apart.
    """

    run: Run
    settings: Settings
    reply: Reply
    reader: AnswerReader
    _text: str = field(default="", init=False)
    _sent: dict[_Field, str] = field(default_factory=lambda: {"content": "", "thinking": ""}, init=False)
    _arguments: list[str] = field(default_factory=list, init=False)
    _kinds: list[_Field] = field(default_factory=list, init=False)

    def cancel(self) -> None:
        """Stop generating within a chunk."""
        self.run.cancel()

    def message(self, selection: Selection) -> AIMessage:
        """The whole answer.

        Raises:
            AnswerCutError: the token limit cut an answer that should have had a shape.
        """
        self._check_shape(selection)
        parsed = self._read(selection.text)
        return AIMessage(
            **_parts(parsed),
            response_metadata=self._metadata(selection, parsed),
            usage_metadata=usage_metadata(selection),
        )

    def chunks(self, event: DecodingEvent) -> Iterator[ChatGenerationChunk]:
        """What a streaming caller gets of an event.

        Text that may be part of a tool call is held back until it is decided. Calls that were forced grow as they are
        written; others come whole, one chunk each, since only then it is certain that they are calls. Usage and
        evidence come once, with the last chunk.

        Raises:
            AnswerCutError: the token limit cut an answer that should have had a shape.
        """
        if isinstance(event, TextDelta):
            self._text += event.text
            if self._growing:
                yield from self._calls_up_to(self._text)
            else:
                yield from self._texts_up_to(self.reader.certain(self._text))
        elif isinstance(event, Finished):
            self._check_shape(event.selection)
            parsed = self._read(event.selection.text)
            yield from self._texts_up_to(parsed)
            if self._growing:
                yield from self._calls_up_to(event.selection.text)
            else:
                # langchain-core numbers the blocks of text before them, and merges what has one number
                first = len(self._kinds)
                yield from (_call_chunk(index, **chunk) for index, chunk in enumerate(_call_chunks(parsed), first))
            last = AIMessageChunk(
                content="",
                response_metadata=self._metadata(event.selection, parsed),
                usage_metadata=usage_metadata(event.selection),
                chunk_position="last",
            )
            yield ChatGenerationChunk(message=last)

    def _check_shape(self, selection: Selection) -> None:
        # text, unlike JSON, does not show that it broke off
        kind = (self.reply.response_format or {}).get("type")
        if kind in {"regex", "choice"} and not self.reply.forced and selection.best.finish_reason == "length":
            raise AnswerCutError(selection.text)

    def _texts_up_to(self, parsed: ParsedAnswer) -> Iterator[ChatGenerationChunk]:
        if thinking := self._new("thinking", parsed.thinking):
            yield ChatGenerationChunk(message=AIMessageChunk(content="", additional_kwargs={_THINKING: thinking}))
        if content := self._new("content", parsed.content):
            yield ChatGenerationChunk(message=AIMessageChunk(content=content))

    def _new(self, name: _Field, text: str) -> str:
        sent = self._sent[name]
        if len(text) <= len(sent) or not text.startswith(sent):
            return ""
        self._sent[name] = text
        if self._kinds[-1:] != [name]:
            self._kinds.append(name)
        return text[len(sent) :]

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

    def _read(self, text: str) -> ParsedAnswer:
        parsed = self.reader.read(text)
        return replace(parsed, calls=parsed.calls[:1]) if self.reply.parallel is False else parsed

    def _metadata(self, selection: Selection, parsed: ParsedAnswer) -> dict[str, Any]:
        metadata = response_metadata(
            selection,
            model=self.settings.model,
            include_candidates=self.settings.include_candidates,
            finish_reason="tool_calls" if parsed.calls else None,
        )
        for candidate in metadata["nad"].get("candidates", ()):
            candidate["message"] = _parts(self._read(candidate["text"]))
        return metadata


def _parts(parsed: ParsedAnswer) -> dict[str, Any]:
    """What an `AIMessage` of an answer is made of."""
    return {
        "content": parsed.content,
        "additional_kwargs": {_THINKING: parsed.thinking} if parsed.thinking else {},
        "tool_calls": list(parsed.calls),
        "invalid_tool_calls": list(parsed.invalid),
    }


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
    """Lets answers that call a tool pass, and leaves the others to a verifier, without what the model only thought.

    Attributes:
        verifier: judges answers that are no calls.
        reader: takes answers apart.
    """

    verifier: Verifier
    reader: AnswerReader

    def verify(self, answer: str, *, prompt: str = "") -> Verdict:
        """Judge an answer."""
        parsed = self.reader.read(answer)
        return _Accepted() if parsed.calls else self.verifier.verify(parsed.content, prompt=prompt)

    def fingerprint(self, answer: str) -> str:
        """Key of answers that must get the same verdict."""
        parsed = self.reader.read(answer)
        return answer if parsed.calls else self.verifier.fingerprint(parsed.content)
