"""Answers taken apart: text, thinking and calls, as the tokenizer's response template or the family writes them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from nad_agents.chat.tool_parser import ParsedAnswer, invalid_call, parse_answer, read_call, sorted_calls, stable_prefix
from nad_agents.exceptions import ConfigurationError

if TYPE_CHECKING:
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase
    from transformers.utils.chat_parsing import ResponseParser as TransformersParser

__all__ = ["ResponseParser", "TemplateResponseParser", "ToolCallParser", "response_template"]


class ResponseParser(Protocol):
    """Takes answers apart."""

    def parse(self, text: str) -> ParsedAnswer:
        """A whole answer."""
        ...

    def stable_prefix(self, text: str) -> ParsedAnswer:
        """What is certain of an answer that is still being written: content and thinking, but no call."""
        ...


@dataclass(frozen=True)
class ToolCallParser:
    """Reads calls as one of the families writes them.

    Attributes:
        names: tools on offer; without any, everything is text.
    """

    names: tuple[str, ...] = ()

    def parse(self, text: str) -> ParsedAnswer:
        """A whole answer."""
        return parse_answer(text, self.names) if self.names else ParsedAnswer(text)

    def stable_prefix(self, text: str) -> ParsedAnswer:
        """The text before what may become a call."""
        return ParsedAnswer(stable_prefix(text, self.names) if self.names else text)


_Part = Literal["content", "thinking", "call"]
_PARTS: dict[str, _Part] = {
    "content": "content",
    "reasoning_content": "thinking",
    "reasoning": "thinking",
    "thinking": "thinking",
    "tool_calls": "call",
}
"""What the fields of response templates are; others are not read."""


@dataclass(frozen=True)
class _Region:
    """A stretch of an answer that belongs to one field.

    Attributes:
        part: which field.
        body: as the model wrote it.
        value: as the template reads it; None where it is unfinished or cannot be read.
        error: why it cannot be read.
    """

    part: _Part | None
    body: str
    value: Any = None
    error: str = ""


class TemplateResponseParser:
    """Reads answers by the response template that a tokenizer brings (`PreTrainedTokenizerBase.parse_response`).

    Args:
        tokenizer: has a `response_template`.
        prefix: the prompt as text, which may have begun the answer: with the mark that opens the thinking, say.
        tools: on offer, in OpenAI's form; without any, what is written as a call is text.

    Raises:
        ConfigurationError: transformers does not understand the template.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, prefix: str, tools: Sequence[Mapping[str, Any]]) -> None:
        self._tokenizer = tokenizer
        self._prefix = prefix
        self._tools: list[Any] = [dict(tool) for tool in tools]
        try:
            self._parser(prefix)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            # a server's callers read this, and where its model lies is not their business
            name = Path(tokenizer.name_or_path).name or "the tokenizer"
            msg = f"the response template of {name} cannot be used: {error}; correct it or set it to None"
            raise ConfigurationError(msg) from error

    @property
    def special_tokens(self) -> list[int]:
        """Special tokens that the template looks for, and that the text therefore has to show."""
        written = "\n".join(_strings(self._template["fields"])).replace("\\", "")
        tokens = self._tokenizer.added_tokens_decoder.items()
        end = self._tokenizer.eos_token_id
        return [i for i, token in tokens if token.special and i != end and token.content in written]

    def parse(self, text: str) -> ParsedAnswer:
        """A whole answer; what is meant as a call and cannot be read is an invalid call."""
        regions = list(self._regions([text], whole=True))
        if any(region.error for region in regions):
            # only where the parser gets a character at a time is it known what came before the error
            regions = list(self._regions(text, whole=True))
        calls = [call for region in regions if region.part == "call" and self._tools for call in _calls(region)]
        return sorted_calls(self._text(regions, "content"), calls, self._text(regions, "thinking"))

    def stable_prefix(self, text: str) -> ParsedAnswer:
        """Content and thinking so far, unless there is something that only the whole answer explains."""
        regions = list(self._regions([text], whole=False))
        if any(region.error for region in regions):
            return ParsedAnswer("")
        return ParsedAnswer(self._text(regions, "content"), thinking=self._text(regions, "thinking"))

    @property
    def _template(self) -> dict[str, Any]:
        template: dict[str, Any] = response_template(self._tokenizer) or {}
        return template

    def _parser(self, prefix: str) -> TransformersParser:
        # no field is required, since an answer may break off anywhere
        fields = {name: {**field, "optional": True} for name, field in self._template["fields"].items()}
        found: TransformersParser = self._tokenizer.get_response_parser(
            {**self._template, "fields": fields}, prefix=prefix, tools=self._tools
        )
        return found

    def _regions(self, pieces: Iterable[str], *, whole: bool) -> Iterator[_Region]:
        """The regions of an answer in order; after an error the parser starts anew behind it."""
        parser = self._parser(self._prefix)
        # the prompt may have opened a region, whose text so far is the prompt's
        field, body = None, ""
        for event in parser.initial_events:
            field = event["field"] if event["type"] != "region_close" else None
        for step in [*pieces, None] if whole else pieces:
            try:
                events = parser.feed(step) if step is not None else parser.finalize()[1]
            except (ValueError, KeyError) as error:
                yield _Region(_PARTS.get(field or ""), body, error=str(error).split("\n")[0])
                parser, field, body = self._parser(""), None, ""
                continue
            for event in events:
                if event["type"] == "region_open":
                    field, body = event["field"], ""
                elif event["type"] == "region_chunk":
                    body += event["text"]
                else:
                    yield _Region(_PARTS.get(field or ""), body, event["value"])
                    field, body = None, ""
        if field is not None:
            yield _Region(_PARTS.get(field), body)

    def _text(self, regions: Sequence[_Region], part: _Part) -> str:
        shown = {part} if self._tools or part != "content" else {part, "call"}
        return "".join(region.body for region in regions if region.part in shown).strip()


def response_template(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any] | None:
    """How a tokenizer says that answers are to be read, if it does."""
    template: dict[str, Any] | None = getattr(tokenizer, "response_template", None)
    return template


def _calls(region: _Region) -> Iterator[Any]:
    if region.error or region.value is None:
        yield invalid_call(region.body.strip(), region.error or "the call breaks off")
        return
    for value in region.value if isinstance(region.value, list) else [region.value]:
        yield read_call(value)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | Collection):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _strings(item)
