"""One call of the chat model: what was asked, the run, and the message made of its selection."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.ai import OutputTokenDetails, UsageMetadata
from langchain_core.messages.tool import invalid_tool_call, tool_call, tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.utils.json import parse_partial_json

from nad_agents.chat.evidence import evidence
from nad_agents.chat.params import Settings
from nad_agents.chat.prepare import PreparedChat
from nad_agents.chat.tool_parser import ParsedAnswer, new_call_id, partial_tool_calls
from nad_agents.events import DecodingEvent, Finished, TextDelta
from nad_agents.exceptions import AnswerCutError
from nad_agents.pending import PendingRequest
from nad_agents.types import Selection

__all__ = ["PROVIDER", "ChatCall", "message_fields", "response_metadata", "usage_metadata"]


_Field = Literal["content", "thinking"]

_THINKING = "reasoning_content"
"""Where langchain-core looks for what a model thought, to make a content block of it."""


@dataclass(eq=False)
class ChatCall:
    """A submitted call.

    Attributes:
        pending: on the decoder.
        settings: what it runs with.
        prepared: the prompt, the kind of answer that was asked for, and what parses it.
    """

    pending: PendingRequest
    settings: Settings
    prepared: PreparedChat
    _text: str = field(default="", init=False)
    _sent: dict[_Field, str] = field(default_factory=lambda: {"content": "", "thinking": ""}, init=False)
    _arguments: list[str] = field(default_factory=list, init=False)
    _kinds: list[_Field] = field(default_factory=list, init=False)

    def cancel(self) -> None:
        """Stop generating within a chunk."""
        self.pending.cancel()

    def message(self, selection: Selection) -> AIMessage:
        """The whole answer.

        Raises:
            AnswerCutError: the token limit cut an answer that should have had a shape.
        """
        self._check_shape(selection)
        parsed = self._read(selection.text)
        return AIMessage(
            **message_fields(parsed),
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
                yield from self._texts_up_to(self.prepared.parser.stable_prefix(self._text))
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
        kind = (self.prepared.output_spec.response_format or {}).get("type")
        if (
            kind in {"regex", "choice"}
            and not self.prepared.output_spec.forced
            and selection.best.finish_reason == "length"
        ):
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
        return self.prepared.output_spec.forced and not self.settings.sampling.stop

    def _calls_up_to(self, text: str) -> Iterator[ChatGenerationChunk]:
        for index, (name, arguments) in enumerate(partial_tool_calls(text)):
            if index == len(self._arguments):
                self._arguments.append("")
                yield _call_chunk(index, name=name, args="", id=new_call_id())
            sent = len(self._arguments[index])
            if len(arguments) > sent:
                yield _call_chunk(index, name=None, args=arguments[sent:], id=None)
                self._arguments[index] = arguments

    def _read(self, text: str) -> ParsedAnswer:
        parsed = self.prepared.parser.parse(text)
        return replace(parsed, calls=parsed.calls[:1]) if self.prepared.output_spec.parallel is False else parsed

    def _metadata(self, selection: Selection, parsed: ParsedAnswer) -> dict[str, Any]:
        metadata = response_metadata(
            selection,
            model=self.settings.model,
            include_candidates=self.settings.include_candidates,
            finish_reason="tool_calls" if parsed.calls else None,
        )
        for candidate in metadata["nad"].get("candidates", ()):
            candidate["message"] = message_fields(self._read(candidate["text"]))
        return metadata


def message_fields(parsed: ParsedAnswer) -> dict[str, Any]:
    """What an `AIMessage` of an answer is made of."""
    return {
        "content": parsed.content,
        "additional_kwargs": {_THINKING: parsed.thinking} if parsed.thinking else {},
        "tool_calls": [tool_call(name=call.name, args=call.arguments, id=call.id) for call in parsed.calls],
        "invalid_tool_calls": [
            invalid_tool_call(name=call.name, args=call.text, id=call.id, error=call.error) for call in parsed.invalid
        ],
    }


def _call_chunks(parsed: ParsedAnswer) -> Iterator[dict[str, str | None]]:
    for call in parsed.calls:
        yield {"name": call.name, "args": json.dumps(call.arguments, ensure_ascii=False), "id": call.id}
    for invalid in parsed.invalid:
        yield {"name": invalid.name, "args": _unreadable(invalid.text), "id": invalid.id}


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


PROVIDER = "nad"
"""What tracing and content blocks know this integration by."""


def usage_metadata(selection: Selection) -> UsageMetadata:
    """Tokens of an answer: the prompt once, as it is prefilled once; every token of every candidate as output.

    `output_token_details` says how many of them are the winner's and how many pruning saved.
    """
    usage = selection.usage
    details: Any = {"winner": usage.winner_tokens, "saved": usage.saved_tokens}
    return UsageMetadata(
        input_tokens=usage.prompt_tokens,
        output_tokens=usage.generated_tokens,
        total_tokens=usage.prompt_tokens + usage.generated_tokens,
        output_token_details=cast("OutputTokenDetails", details),
    )


def response_metadata(
    selection: Selection, *, model: str | None, include_candidates: bool, finish_reason: str | None = None
) -> dict[str, Any]:
    """Metadata of an answer: model, finish reason, and the evidence under ``nad``.

    Args:
        selection: what was decided.
        model: the model as the caller names it; None takes the decoder's name for it.
        include_candidates: see `evidence`.
        finish_reason: instead of the winner's own.
    """
    return {
        "model_name": model or selection.model,
        "model_provider": PROVIDER,
        "finish_reason": finish_reason or selection.best.finish_reason,
        "nad": evidence(selection, include_candidates=include_candidates),
    }
