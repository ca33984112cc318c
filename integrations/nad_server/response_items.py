"""The items that a response's output is made of, whole and as events."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

from nad_server.events import Frame
from nad_server.replies import Call

__all__ = ["TextItem", "call_events", "call_item"]

Event = Callable[..., Frame]
"""Makes an event of its kind and its content."""
_PREFIXES = {"message": "msg", "reasoning": "rs"}
_PARTS = {"message": "output_text", "reasoning": "reasoning_text"}


class TextItem:
    """A message, or the thinking before it: one text, which grows and ends.

    Attributes:
        begun: whether there is any of it.

    Args:
        kind: of item.
        event: see `Event`.
    """

    def __init__(self, kind: Literal["message", "reasoning"], event: Event) -> None:
        self._kind = kind
        self._event = event
        self._id = f"{_PREFIXES[kind]}_{secrets.token_hex(16)}"
        self._text = ""
        self._index = 0
        self._ended = False
        self.begun = False

    def whole(self, text: str, logprobs: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
        """The item with its text."""
        head = {"id": self._id, "type": self._kind, "status": "completed"}
        own: dict[str, Any] = {"role": "assistant"} if self._kind == "message" else {"summary": []}
        return {**head, **own, "content": [self._part(text, logprobs)]}

    def begin(self, index: int) -> Iterator[Frame]:
        """Its first events, if it has not begun.

        Args:
            index: its place in the output.
        """
        if not self.begun:
            self.begun, self._index = True, index
            item = {**self.whole(""), "status": "in_progress", "content": []}
            yield self._event("response.output_item.added", output_index=index, item=item)
            yield self._event("response.content_part.added", **self._place, part=self._part(""))

    def grow(self, text: str, logprobs: Sequence[dict[str, Any]] = ()) -> Iterator[Frame]:
        """The event of more text."""
        self._text += text
        yield self._event(f"response.{_PARTS[self._kind]}.delta", **self._place, delta=text, **self._said(logprobs))

    def end(self, logprobs: Sequence[dict[str, Any]] = ()) -> Iterator[Frame]:
        """Its last events, if it has begun and not ended."""
        if self.begun and not self._ended:
            self._ended = True
            item = self.whole(self._text, logprobs)
            told = {"text": self._text, **self._said(logprobs)}
            yield self._event(f"response.{_PARTS[self._kind]}.done", **self._place, **told)
            yield self._event("response.content_part.done", **self._place, part=item["content"][0])
            yield self._event("response.output_item.done", output_index=self._index, item=item)

    @property
    def _place(self) -> dict[str, Any]:
        return {"item_id": self._id, "output_index": self._index, "content_index": 0}

    def _part(self, text: str, logprobs: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
        annotations: dict[str, Any] = {"annotations": []} if self._kind == "message" else {}
        return {"type": _PARTS[self._kind], "text": text, **annotations, **self._said(logprobs)}

    def _said(self, logprobs: Sequence[dict[str, Any]]) -> dict[str, Any]:
        return {"logprobs": list(logprobs)} if self._kind == "message" else {}


def call_item(call: Call) -> dict[str, Any]:
    """A tool call."""
    head = {"id": f"fc_{call.id.removeprefix('call_')}", "type": "function_call", "status": "completed"}
    return {**head, "call_id": call.id, "name": call.name, "arguments": call.arguments}


def call_events(call: Call, item: dict[str, Any], index: int, event: Event) -> Iterator[Frame]:
    """The events of a tool call.

    Args:
        call: what is called.
        item: the same as an item.
        index: its place in the output.
        event: see `Event`.
    """
    place = {"item_id": item["id"], "output_index": index}
    begun = {**item, "status": "in_progress", "arguments": ""}
    yield event("response.output_item.added", output_index=index, item=begun)
    for piece in call.argument_pieces():
        yield event("response.function_call_arguments.delta", **place, delta=piece)
    yield event("response.function_call_arguments.done", **place, name=call.name, arguments=call.arguments)
    yield event("response.output_item.done", output_index=index, item=item)
