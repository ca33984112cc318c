"""A selection in LangChain's types: the message or the chunks that a `LangChainChat` makes of it, and metadata."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.ai import OutputTokenDetails, UsageMetadata
from langchain_core.messages.tool import invalid_tool_call, tool_call, tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.utils.json import parse_partial_json

from nad_agents.chat.evidence import evidence
from nad_agents.chat.growing_tool_calls import partial_tool_calls
from nad_agents.chat.parsed_answer import ParsedAnswer, new_call_id
from nad_agents.chat.submitted_chat import SubmittedChat
from nad_agents.events import DecodingEvent, Finished, TextDelta
from nad_agents.exceptions import AnswerCutError
from nad_agents.types import Selection

__all__ = ["PROVIDER", "LangChainChat", "message_fields", "response_metadata", "usage_metadata"]

PROVIDER = "nad"
"""Name of this integration in traces and content blocks."""

_THINKING = "reasoning_content"
"""Key of `additional_kwargs` where langchain-core looks for a model's thinking, to make a content block of it."""


@dataclass(eq=False)
class LangChainChat(SubmittedChat):
    """One call of the chat model; see `SubmittedChat` for its attributes."""

    _sent_arguments: list[str] = field(default_factory=list, init=False)
    _blocks: list[str] = field(default_factory=list, init=False)

    def message(self, selection: Selection) -> AIMessage:
        """Return the whole answer.

        Args:
            selection: The decoder's selection.

        Raises:
            AnswerCutError: The token limit cut an answer that should have had a shape.
        """
        self._check_shape(selection)
        parsed = self.parse(selection.text)
        return AIMessage(
            **message_fields(parsed),
            response_metadata=self._metadata(selection, parsed),
            usage_metadata=usage_metadata(selection),
        )

    def chunks(self, event: DecodingEvent) -> Iterator[ChatGenerationChunk]:
        """Yield the chunks that a streaming caller gets for an event.

        Text that may be part of a tool call is held back until that is decided. Forced calls grow as they are written;
        others come whole, one chunk each, since they are certain to be calls only at the end. Usage and evidence come
        once, with the last chunk.

        Args:
            event: The decoder's event.

        Raises:
            AnswerCutError: The token limit cut an answer that should have had a shape.
        """
        if isinstance(event, TextDelta):
            if self._calls_grow:
                self.growing.text += event.text
                yield from self._unsent_calls(self.growing.text)
            else:
                yield from self._text_chunks(self.growing.add(event.text))
        elif isinstance(event, Finished):
            yield from self._closing_chunks(event.selection)

    def _closing_chunks(self, selection: Selection) -> Iterator[ChatGenerationChunk]:
        self._check_shape(selection)
        parsed = self.parse(selection.text)
        yield from self._text_chunks(self.growing.unsent(parsed))
        if self._calls_grow:
            yield from self._unsent_calls(selection.text)
        else:
            # langchain-core counts the blocks of text as well, and merges blocks that have one number
            for index, call in enumerate(_call_chunks(parsed), len(self._blocks)):
                yield _call_chunk(index, **call)
        last = AIMessageChunk(
            content="",
            response_metadata=self._metadata(selection, parsed),
            usage_metadata=usage_metadata(selection),
            chunk_position="last",
        )
        yield ChatGenerationChunk(message=last)

    def _check_shape(self, selection: Selection) -> None:
        """Refuse an answer of a regex or a choice that the token limit cut: unlike JSON, the text does not show it."""
        output_spec = self.prepared.output_spec
        kind = (output_spec.response_format or {}).get("type")
        shaped = kind in {"regex", "choice"} and not output_spec.forced
        if shaped and selection.best.finish_reason == "length":
            raise AnswerCutError(selection.text)

    def _text_chunks(self, new: ParsedAnswer) -> Iterator[ChatGenerationChunk]:
        if new.thinking:
            self._count_block("thinking")
            yield ChatGenerationChunk(message=AIMessageChunk(content="", additional_kwargs={_THINKING: new.thinking}))
        if new.content:
            self._count_block("content")
            yield ChatGenerationChunk(message=AIMessageChunk(content=new.content))

    def _count_block(self, kind: str) -> None:
        if self._blocks[-1:] != [kind]:
            self._blocks.append(kind)

    @property
    def _calls_grow(self) -> bool:
        """Whether the answer is nothing but calls, and nothing but the grammar ends it."""
        return self.prepared.output_spec.forced and not self.settings.sampling.stop

    def _unsent_calls(self, text: str) -> Iterator[ChatGenerationChunk]:
        for index, (name, arguments) in enumerate(partial_tool_calls(text)):
            if index == len(self._sent_arguments):
                self._sent_arguments.append("")
                yield _call_chunk(index, name=name, args="", id=new_call_id())
            sent = len(self._sent_arguments[index])
            if len(arguments) > sent:
                yield _call_chunk(index, name=None, args=arguments[sent:], id=None)
                self._sent_arguments[index] = arguments

    def _metadata(self, selection: Selection, parsed: ParsedAnswer) -> dict[str, Any]:
        metadata = response_metadata(
            selection,
            model=self.settings.model,
            include_candidates=self.settings.include_candidates,
            finish_reason=parsed.finish_reason(selection.best.finish_reason),
        )
        for candidate in metadata["nad"].get("candidates", ()):
            candidate["message"] = message_fields(self.parse(candidate["text"]))
        return metadata


def message_fields(parsed: ParsedAnswer) -> dict[str, Any]:
    """Return an answer as the fields of an `AIMessage`.

    Args:
        parsed: The parsed answer.
    """
    return {
        "content": parsed.content,
        "additional_kwargs": {_THINKING: parsed.thinking} if parsed.thinking else {},
        "tool_calls": [tool_call(name=call.name, args=call.arguments, id=call.id) for call in parsed.calls],
        "invalid_tool_calls": [
            invalid_tool_call(name=call.name, args=call.text, id=call.id, error=call.error) for call in parsed.invalid
        ],
    }


def usage_metadata(selection: Selection) -> UsageMetadata:
    """Return the token counts of an answer.

    The prompt counts once, as it is prefilled once, and every token of every candidate counts as output.
    `output_token_details` says how many of the output tokens are the winner's and how many pruning saved.

    Args:
        selection: The decoder's selection.
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
    """Return the metadata of an answer: model, finish reason, and the evidence under ``nad``.

    Args:
        selection: The decoder's selection.
        model: The model as the caller names it; None takes the decoder's name for it.
        include_candidates: Whether the evidence holds the candidates' texts and the similarity matrix.
        finish_reason: Replaces the winner's own.
    """
    return {
        "model_name": model or selection.model,
        "model_provider": PROVIDER,
        "finish_reason": finish_reason or selection.best.finish_reason,
        "nad": evidence(selection, include_candidates=include_candidates),
    }


def _call_chunks(parsed: ParsedAnswer) -> Iterator[dict[str, str | None]]:
    for call in parsed.calls:
        yield {"name": call.name, "args": json.dumps(call.arguments, ensure_ascii=False), "id": call.id}
    for invalid in parsed.invalid:
        yield {"name": invalid.name, "args": _kept_invalid(invalid.text), "id": invalid.id}


def _call_chunk(index: int, *, name: str | None, args: str | None, id: str | None) -> ChatGenerationChunk:  # noqa: A002 - LangChain's name
    chunk = tool_call_chunk(name=name, args=args, id=id, index=index)
    return ChatGenerationChunk(message=AIMessageChunk(content="", tool_call_chunks=[chunk]))


def _kept_invalid(arguments: str) -> str:
    """Return broken arguments so that a merged stream calls them invalid; langchain-core would complete them."""
    try:
        readable = not arguments or isinstance(parse_partial_json(arguments), dict)
    except ValueError:
        readable = False
    return json.dumps(arguments, ensure_ascii=False) if readable else arguments
