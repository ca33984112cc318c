"""`LlamaIndexChat`: one call of the model, whose selection becomes LlamaIndex's responses."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, closing
from dataclasses import dataclass
from typing import Any

from llama_index.core.base.llms.generic_utils import chat_response_to_completion_response
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    CompletionResponse,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)
from llama_index.core.llms.llm import ToolSelection

from nad_agents.chat.evidence import evidence
from nad_agents.chat.parsed_answer import ParsedAnswer
from nad_agents.chat.submitted_chat import SubmittedChat
from nad_agents.events import DecodingEvent, Finished, TextDelta
from nad_agents.types import Selection

__all__ = ["LlamaIndexChat", "as_completion", "tool_selections"]


@dataclass(eq=False)
class LlamaIndexChat(SubmittedChat):
    """One call of the model; see `SubmittedChat` for its attributes."""

    def result(self) -> ChatResponse:
        """Wait for the answer."""
        return self.response(self.pending.result())

    async def aresult(self) -> ChatResponse:
        """Wait for the answer without blocking the event loop; cancelling the task stops the generation."""
        return self.response(await self.pending.aresult())

    def responses(self) -> Iterator[ChatResponse]:
        """Yield the answer as it grows; closing the iterator stops the generation."""
        with closing(self.pending.events()) as events:
            for event in events:
                yield from self.responses_to(event)

    async def aresponses(self) -> AsyncGenerator[ChatResponse]:
        """Yield the answer as `responses` does without blocking the event loop."""
        async with aclosing(self.pending.aevents()) as events:
            async for event in events:
                for response in self.responses_to(event):
                    yield response

    def response(self, selection: Selection) -> ChatResponse:
        """Return the whole answer, with the token counts and the evidence for the choice in ``raw``.

        Args:
            selection: The decoder's selection.
        """
        parsed = self.parse(selection.text)
        usage = selection.usage
        raw = {
            "model": self.settings.model or selection.model,
            "finish_reason": parsed.finish_reason(selection.best.finish_reason),
            "usage": {
                "prompt_tokens": usage.prompt_tokens,
                "completion_tokens": usage.generated_tokens,
                "total_tokens": usage.prompt_tokens + usage.generated_tokens,
                "completion_tokens_details": {"winner": usage.winner_tokens, "saved": usage.saved_tokens},
            },
            "nad": evidence(selection, include_candidates=self.settings.include_candidates),
        }
        return ChatResponse(message=_message(parsed), raw=raw)

    def responses_to(self, event: DecodingEvent) -> Iterator[ChatResponse]:
        """Yield the responses that a streaming caller gets for an event: the text so far and its new part.

        Text that may be part of a tool call is held back until the answer is complete. Calls, token counts and
        evidence come with the last response.

        Args:
            event: The decoder's event.
        """
        if isinstance(event, TextDelta):
            if delta := self.growing.add(event.text).content:
                yield ChatResponse(message=_message(ParsedAnswer(self.growing.sent.content)), delta=delta)
        elif isinstance(event, Finished):
            last = self.response(event.selection)
            last.delta = self.growing.unsent(ParsedAnswer(last.message.content or "")).content
            yield last

    def parse(self, text: str) -> ParsedAnswer:
        """Take a whole answer apart; an answer whose only calls are invalid is text.

        A call that cannot be read must not run with whatever arguments are left of it.

        Args:
            text: The whole answer.
        """
        parsed = super().parse(text)
        return ParsedAnswer(text) if parsed.invalid and not parsed.calls else parsed


def as_completion(response: ChatResponse) -> CompletionResponse:
    """Return a chat response as the response of a completion.

    Args:
        response: The whole answer, or a part of a stream.
    """
    completion = chat_response_to_completion_response(response)
    completion.delta = response.delta
    return completion


def tool_selections(response: ChatResponse) -> list[ToolSelection]:
    """Return the tool calls of an answer.

    Args:
        response: The whole answer.
    """
    return [
        ToolSelection(tool_id=block.tool_call_id or "", tool_name=block.tool_name, tool_kwargs=block.tool_kwargs)
        for block in response.message.blocks
        if isinstance(block, ToolCallBlock) and isinstance(block.tool_kwargs, dict)
    ]


def _message(parsed: ParsedAnswer) -> ChatMessage:
    calls = [ToolCallBlock(tool_call_id=c.id, tool_name=c.name, tool_kwargs=c.arguments) for c in parsed.calls]
    thinking = [ThinkingBlock(content=parsed.thinking)] if parsed.thinking else []
    text = [TextBlock(text=parsed.content)] if parsed.content or not calls else []
    # LlamaIndex's own programs look for calls in additional_kwargs
    more: dict[str, Any] = {"tool_calls": [_openai_call(call) for call in calls]} if calls else {}
    return ChatMessage(role=MessageRole.ASSISTANT, blocks=[*thinking, *text, *calls], additional_kwargs=more)


def _openai_call(call: ToolCallBlock) -> dict[str, Any]:
    arguments = json.dumps(call.tool_kwargs, ensure_ascii=False)
    return {
        "id": call.tool_call_id,
        "type": "function",
        "function": {"name": call.tool_name, "arguments": arguments},
    }
