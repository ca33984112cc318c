"""The output items of POST /v1/responses (messages, reasoning, function calls) and the events that stream them."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

from nad_server.outputs import FunctionToolCall
from nad_server.sse import ServerSentEvent

__all__ = ["EventFactory", "TextItem", "call_events", "call_item"]

EventFactory = Callable[..., ServerSentEvent]
"""Makes an event from its type, as a positional argument, and its content, as keyword arguments."""

_ID_PREFIXES = {"message": "msg", "reasoning": "rs"}
_CONTENT_TYPES = {"message": "output_text", "reasoning": "reasoning_text"}


class TextItem:
    """A message, or the reasoning before it: an item with one text, which grows and ends.

    Attributes:
        begun: Whether the item's first events have been made.

    Args:
        kind: The type of the item.
        event: Makes the events.
    """

    def __init__(self, kind: Literal["message", "reasoning"], event: EventFactory) -> None:
        self._kind = kind
        self._event = event
        self._id = f"{_ID_PREFIXES[kind]}_{secrets.token_hex(16)}"
        self._text = ""
        self._index = 0
        self._ended = False
        self.begun = False

    def full(self, text: str, logprobs: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
        """Return the finished item with its text."""
        head = {"id": self._id, "type": self._kind, "status": "completed"}
        own: dict[str, Any] = {"role": "assistant"} if self._kind == "message" else {"summary": []}
        return {**head, **own, "content": [self._content(text, logprobs)]}

    def begin(self, index: int) -> Iterator[ServerSentEvent]:
        """Yield the first events, unless the item has begun.

        Args:
            index: The place of the item in the response's output.
        """
        if not self.begun:
            self.begun, self._index = True, index
            item = {**self.full(""), "status": "in_progress", "content": []}
            yield self._event("response.output_item.added", output_index=index, item=item)
            yield self._event("response.content_part.added", **self._place, part=self._content(""))

    def grow(self, text: str, logprobs: Sequence[dict[str, Any]] = ()) -> Iterator[ServerSentEvent]:
        """Yield the event of more text."""
        self._text += text
        kind = f"response.{_CONTENT_TYPES[self._kind]}.delta"
        yield self._event(kind, **self._place, delta=text, **self._logprobs(logprobs))

    def end(self, logprobs: Sequence[dict[str, Any]] = ()) -> Iterator[ServerSentEvent]:
        """Yield the last events, unless the item has not begun or has ended."""
        if self.begun and not self._ended:
            self._ended = True
            item = self.full(self._text, logprobs)
            kind = f"response.{_CONTENT_TYPES[self._kind]}.done"
            yield self._event(kind, **self._place, text=self._text, **self._logprobs(logprobs))
            yield self._event("response.content_part.done", **self._place, part=item["content"][0])
            yield self._event("response.output_item.done", output_index=self._index, item=item)

    @property
    def _place(self) -> dict[str, Any]:
        return {"item_id": self._id, "output_index": self._index, "content_index": 0}

    def _content(self, text: str, logprobs: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
        annotations: dict[str, Any] = {"annotations": []} if self._kind == "message" else {}
        return {"type": _CONTENT_TYPES[self._kind], "text": text, **annotations, **self._logprobs(logprobs)}

    def _logprobs(self, logprobs: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return the field for log-probabilities, which reasoning has not."""
        return {"logprobs": list(logprobs)} if self._kind == "message" else {}


def call_item(call: FunctionToolCall, place: tuple[str, str] | None = None) -> dict[str, Any]:
    """Return the item of a tool call.

    Args:
        call: The call.
        place: The namespace of the function, and the function's name there; None for one outside of namespaces.
    """
    status = "incomplete" if call.cut else "completed"
    head = {"id": f"fc_{call.id.removeprefix('call_')}", "type": "function_call", "status": status}
    name = {"name": call.name} if place is None else {"namespace": place[0], "name": place[1]}
    return {**head, "call_id": call.id, **name, "arguments": call.arguments}


def call_events(
    call: FunctionToolCall, item: dict[str, Any], index: int, event: EventFactory
) -> Iterator[ServerSentEvent]:
    """Yield the events of a tool call.

    Args:
        call: The call.
        item: The item of the call, from `call_item`.
        index: The place of the item in the response's output.
        event: Makes the events.
    """
    place = {"item_id": item["id"], "output_index": index}
    begun = {**item, "status": "in_progress", "arguments": ""}
    yield event("response.output_item.added", output_index=index, item=begun)
    for arguments in call.argument_deltas():
        yield event("response.function_call_arguments.delta", **place, delta=arguments)
    yield event("response.function_call_arguments.done", **place, name=item["name"], arguments=call.arguments)
    yield event("response.output_item.done", output_index=index, item=item)
