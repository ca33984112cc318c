"""One call of the model: what was asked, the run, and LlamaIndex's responses made of its selection."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)

from nad_agents.chat.evidence import evidence
from nad_agents.chat.params import Settings
from nad_agents.chat.response_parser import ResponseParser
from nad_agents.chat.tool_parser import ParsedAnswer
from nad_agents.events import DecodingEvent, Finished, TextDelta
from nad_agents.pending import PendingRequest
from nad_agents.types import Selection

__all__ = ["ChatCall"]


@dataclass(eq=False)
class ChatCall:
    """A submitted call.

    Attributes:
        pending: on the decoder.
        settings: what it runs with.
        parser: takes answers apart.
        parallel: False leaves the first of several tool calls.
    """

    pending: PendingRequest
    settings: Settings
    parser: ResponseParser
    parallel: bool = True
    _text: str = field(default="", init=False)
    _sent: str = field(default="", init=False)

    def cancel(self) -> None:
        """Stop generating within a chunk."""
        self.pending.cancel()

    def response(self, selection: Selection, delta: str | None = None) -> ChatResponse:
        """The whole answer; the token counts and the evidence for the choice are in ``raw``."""
        parsed = self._parse(selection.text)
        calls = parsed.calls if self.parallel else parsed.calls[:1]
        usage = selection.usage
        raw = {
            "model": self.settings.model or selection.model,
            "finish_reason": "tool_calls" if calls else selection.best.finish_reason,
            "usage": {
                "prompt_tokens": usage.prompt_tokens,
                "completion_tokens": usage.generated_tokens,
                "total_tokens": usage.prompt_tokens + usage.generated_tokens,
                "completion_tokens_details": {"winner": usage.winner_tokens, "saved": usage.saved_tokens},
            },
            "nad": evidence(selection, include_candidates=self.settings.include_candidates),
        }
        message = _message(
            parsed.content,
            [ToolCallBlock(tool_call_id=call.id, tool_name=call.name, tool_kwargs=call.arguments) for call in calls],
            parsed.thinking,
        )
        return ChatResponse(message=message, delta=delta, raw=raw)

    def pieces(self, event: DecodingEvent) -> Iterator[ChatResponse]:
        """What a streaming caller gets of an event: the text so far and what is new of it.

        Text that may be part of a tool call is held back until the answer is complete. Calls, token counts and
        evidence come with the last piece.
        """
        if isinstance(event, TextDelta):
            self._text += event.text
            text = self.parser.stable_prefix(self._text).content
            if len(text) > len(self._sent):
                delta, self._sent = text[len(self._sent) :], text
                yield ChatResponse(message=_message(text, []), delta=delta)
        elif isinstance(event, Finished):
            last = self.response(event.selection)
            text = last.message.content or ""
            # a call that was cut out may have been the reason to hold text back
            last.delta = text[len(self._sent) :] if text.startswith(self._sent) else ""
            yield last

    def _parse(self, text: str) -> ParsedAnswer:
        parsed = self.parser.parse(text)
        # a call that cannot be read must not run with whatever arguments are left of it: it stays text
        return ParsedAnswer(text) if parsed.invalid and not parsed.calls else parsed


def _message(text: str, calls: list[ToolCallBlock], thinking: str = "") -> ChatMessage:
    # LlamaIndex's own programs look for calls there
    more: dict[str, Any] = {"tool_calls": [_openai_call(call) for call in calls]} if calls else {}
    thought = [ThinkingBlock(content=thinking)] if thinking else []
    blocks = [*thought, *([TextBlock(text=text)] if text or not calls else []), *calls]
    return ChatMessage(role=MessageRole.ASSISTANT, blocks=blocks, additional_kwargs=more)


def _openai_call(call: ToolCallBlock) -> dict[str, Any]:
    arguments = json.dumps(call.tool_kwargs, ensure_ascii=False)
    return {
        "id": call.tool_call_id,
        "type": "function",
        "function": {"name": call.tool_name, "arguments": arguments},
    }
