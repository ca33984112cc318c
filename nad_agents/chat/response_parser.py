"""Parsers that take answers apart: by the tokenizer's response template, or by how a family writes tool calls."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from nad_agents.chat.growing_tool_calls import stable_prefix
from nad_agents.chat.parsed_answer import InvalidToolCall, ParsedAnswer, ToolCall
from nad_agents.chat.tool_call_json import invalid_call, read_call
from nad_agents.chat.tool_parser import parse_answer
from nad_agents.chat.tools import argument_schemas
from nad_agents.exceptions import ConfigurationError

if TYPE_CHECKING:
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase
    from transformers.utils.chat_parsing import ResponseParser as TransformersParser

__all__ = ["ResponseParser", "TemplateResponseParser", "ToolCallParser", "response_template"]


class ResponseParser(Protocol):
    """Takes answers apart, whole or while they grow."""

    def parse(self, text: str) -> ParsedAnswer:
        """Parse a whole answer."""
        ...

    def stable_prefix(self, text: str) -> ParsedAnswer:
        """Return the content and thinking of an unfinished answer that stay as they are, whatever follows."""
        ...


@dataclass(frozen=True)
class ToolCallParser:
    """Parses answers whose tool calls are in the format of one of the known families.

    Thinking between ``<think>`` and ``</think>`` at the beginning of an answer is no content, and is not read for
    calls.

    Attributes:
        names: Names of the tools on offer; without any, everything but the thinking is content.
        schemas: Schema of the arguments by the tool's name.
        marked: Whether the model's family marks its calls; see `parse_answer`.
        thinking: Whether answers may begin with thinking, which answers under a grammar cannot.
        thinking_opened: Whether the prompt has opened the thinking, so that the answer goes on with it.
    """

    names: tuple[str, ...] = ()
    schemas: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    marked: bool = False
    thinking: bool = True
    thinking_opened: bool = False

    def parse(self, text: str) -> ParsedAnswer:
        """Parse a whole answer."""
        thinking, text = self._split(text)
        if not self.names:
            return ParsedAnswer(text, thinking=thinking.strip())
        parsed = parse_answer(text, self.names, schemas=self.schemas, marked=self.marked)
        return replace(parsed, thinking=thinking.strip())

    def stable_prefix(self, text: str) -> ParsedAnswer:
        """Return the thinking, and the content before what may become a call."""
        if self.thinking and _THINK.startswith(text.lstrip()):
            return ParsedAnswer("")
        thinking, text = self._split(text)
        held = max((n for n in range(1, len(_END_OF_THINKING)) if thinking.endswith(_END_OF_THINKING[:n])), default=0)
        thinking = thinking[: len(thinking) - held].strip()
        return ParsedAnswer(stable_prefix(text, self.names) if self.names else text, thinking=thinking)

    def _split(self, text: str) -> tuple[str, str]:
        """Return the thinking, and the text after it."""
        begun = text.lstrip().startswith(_THINK)
        if not self.thinking or not (begun or self.thinking_opened):
            return "", text
        thinking, _, rest = text.partition(_END_OF_THINKING)
        return thinking.lstrip().removeprefix(_THINK), rest.lstrip()


_THINK, _END_OF_THINKING = "<think>", "</think>"

_Part = Literal["content", "thinking", "call"]
_PARTS: dict[str, _Part] = {
    "content": "content",
    "reasoning_content": "thinking",
    "reasoning": "thinking",
    "thinking": "thinking",
    "tool_calls": "call",
}
"""Maps the fields of response templates to parts of an answer; other fields are dropped."""


@dataclass(frozen=True)
class _Region:
    """A stretch of an answer that belongs to one field of the response template.

    Attributes:
        part: The part of an answer that the field is; None for a field that is dropped.
        body: The text as the model wrote it.
        value: The value that the template makes of the text; None where it is unfinished or cannot be read.
        error: Why the text cannot be read.
    """

    part: _Part | None
    body: str
    value: Any = None
    error: str = ""


class TemplateResponseParser:
    """Parses answers by the response template that a tokenizer brings (`PreTrainedTokenizerBase.parse_response`).

    Args:
        tokenizer: A tokenizer with a `response_template`.
        prefix: The prompt as text, which may have begun the answer, for instance by opening the thinking.
        tools: Tools on offer, in OpenAI's form; without any, text in the form of a call is content.

    Raises:
        ConfigurationError: Transformers does not understand the template.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, prefix: str, tools: Sequence[Mapping[str, Any]]) -> None:
        self._tokenizer = tokenizer
        self._prefix = prefix
        self._tools: list[Any] = [dict(tool) for tool in tools]
        self._schemas = argument_schemas(tools)
        try:
            self._parser(prefix)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            # a server's clients read this message, which must not reveal the model's path
            name = Path(tokenizer.name_or_path).name or "the tokenizer"
            msg = f"the response template of {name} cannot be used: {error}; correct it or set it to None"
            raise ConfigurationError(msg) from error

    @property
    def special_tokens(self) -> list[int]:
        """Ids of the special tokens that the template looks for, so that they have to stay in the text."""
        written = "\n".join(_strings(self._template["fields"])).replace("\\", "")
        tokens = self._tokenizer.added_tokens_decoder.items()
        end = self._tokenizer.eos_token_id
        return [i for i, token in tokens if token.special and i != end and token.content in written]

    def parse(self, text: str) -> ParsedAnswer:
        """Parse a whole answer; text that is meant as a call and cannot be read is an invalid call."""
        regions = list(self._regions([text], whole=True))
        if any(region.error for region in regions):
            # what came before the error is known only when the parser gets one character at a time
            regions = list(self._regions(text, whole=True))
        calls = [call for region in regions if region.part == "call" and self._tools for call in self._calls(region)]
        return ParsedAnswer.of_parts(self._text(regions, "content"), calls, self._text(regions, "thinking"))

    def stable_prefix(self, text: str) -> ParsedAnswer:
        """Return content and thinking so far; nothing where only the whole answer decides between them."""
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
        parser: TransformersParser = self._tokenizer.get_response_parser(
            {**self._template, "fields": fields}, prefix=prefix, tools=self._tools
        )
        return parser

    def _regions(self, pieces: Iterable[str], *, whole: bool) -> Iterator[_Region]:
        """Yield the regions of an answer in order; after an error, parsing starts anew behind it."""
        parser = self._parser(self._prefix)
        # the prompt may have opened a region; the region's text so far is part of the prompt, not of the answer
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

    def _calls(self, region: _Region) -> Iterator[ToolCall | InvalidToolCall]:
        if region.error or region.value is None:
            yield invalid_call(region.body.strip(), region.error or "the call breaks off")
            return
        for value in region.value if isinstance(region.value, list) else [region.value]:
            yield read_call(value, self._schemas)

    def _text(self, regions: Sequence[_Region], part: _Part) -> str:
        # without tools on offer, text in the form of a call is content
        parts = {part} if self._tools or part != "content" else {part, "call"}
        return "".join(region.body for region in regions if region.part in parts).strip()


def response_template(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any] | None:
    """Return a tokenizer's response template; None where it has none."""
    template: dict[str, Any] | None = getattr(tokenizer, "response_template", None)
    return template


def _strings(value: Any) -> Iterator[str]:
    """Yield every string in nested mappings and collections."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | Collection):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _strings(item)
