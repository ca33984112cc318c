"""Turn a caller's prompt into the tokens that the model reads, through the model's chat template."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from nad_agents.exceptions import ConfigurationError, PromptError

if TYPE_CHECKING:
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

__all__ = [
    "Message",
    "Prompt",
    "TemplatedText",
    "check_chat_template_kwargs",
    "encode_prompt",
    "last_user_text",
    "reads_variable",
    "template_source",
]


Message = Mapping[str, Any]
"""A chat message in OpenAI's form, with a role, a content, and tool calls or a tool call's id."""

Prompt = str | Sequence[Message]
"""Text, or the messages of a conversation."""


class TemplatedText(str):
    """Text to be continued, made of a template and values: a special token is one in the template, and text in a value.

    Args:
        template: Text with the names of the values in braces, as `str.format` takes it.
        **values: The values by name.
    """

    __slots__ = ("template", "values")
    template: str
    values: dict[str, str]

    def __new__(cls, template: str, **values: str) -> Self:
        """Fill in the template."""
        text = super().__new__(cls, template.format(**values))
        text.template, text.values = template, values
        return text


def encode_prompt(
    tokenizer: PreTrainedTokenizerBase,
    prompt: Prompt,
    *,
    raw: bool = False,
    tools: Sequence[Mapping[str, Any]] | None = None,
    chat_template_kwargs: Mapping[str, Any] | None = None,
    parse_special_tokens: bool = False,
) -> list[int]:
    """Return the token ids of a prompt, special tokens included.

    Args:
        tokenizer: The model's tokenizer.
        prompt: Text or messages. Text becomes one user message if the model has a chat template.
        raw: Whether text is taken as it is, to be continued.
        tools: Tools in OpenAI's form, for the chat template.
        chat_template_kwargs: Further variables of the chat template.
        parse_special_tokens: Whether the text of a special token in a message, such as ``<|im_start|>``, becomes that
            token, so that the message could end itself and begin another one. Raw text is always taken so, but for the
            values of a TemplatedText.

    Raises:
        PromptError: The prompt is empty or no valid text, or the chat template is absent or refuses the messages.
        ConfigurationError: See `check_chat_template_kwargs`.
    """
    if not prompt or (isinstance(prompt, str) and not prompt.strip()):
        msg = "the prompt is empty; write what the model should answer"
        raise PromptError(msg)
    _check_text(prompt)
    template = getattr(tokenizer, "chat_template", None)
    if isinstance(prompt, TemplatedText) and raw and not parse_special_tokens:
        marked = _EscapedTokens(tokenizer, prompt.values, prompt.template)
        if marked:
            return marked.encode(prompt.template.format(**marked.escape(prompt.values)), add_special_tokens=True)
    if isinstance(prompt, str) and (raw or template is None):
        # the engine reports a prompt that is too long
        return list(tokenizer(prompt, verbose=False)["input_ids"])
    if raw:
        msg = "raw=True takes text, but messages were given; join them to one text or drop raw=True"
        raise PromptError(msg)
    if template is None:
        name = Path(tokenizer.name_or_path).name or "the model"
        msg = (
            f"{name} has no chat template, so it takes text and no messages; "
            "pass a string, or choose an instruction-tuned model"
        )
        raise PromptError(msg)
    check_chat_template_kwargs(tokenizer, chat_template_kwargs or {}, tools=bool(tools))
    messages: list[Any] = (
        [{"role": "user", "content": prompt}] if isinstance(prompt, str) else [dict(m) for m in prompt]
    )
    given_tools: list[Any] | None = [dict(tool) for tool in tools] if tools else None
    written = template_source(tokenizer, tools=bool(tools)) or ""
    escaped = _EscapedTokens(tokenizer, [messages, given_tools], written) if not parse_special_tokens else None
    if escaped:
        messages, given_tools = escaped.escape(messages), escaped.escape(given_tools)
    try:
        rendered: Any = tokenizer.apply_chat_template(
            messages,
            tools=given_tools,
            add_generation_prompt=True,
            tokenize=not escaped,
            return_dict=not escaped,
            tokenizer_kwargs={"verbose": False},
            **(chat_template_kwargs or {}),
        )
    except Exception as error:
        # a template may raise any exception
        msg = f"the chat template refuses these messages: {error}"
        raise PromptError(msg) from error
    return escaped.encode(str(rendered)) if escaped else list(rendered["input_ids"])


class _EscapedTokens:
    """Distinguishes texts of special tokens in messages from the special tokens that the template writes.

    Each such text is one private-use character while the template is rendered. The rendered prompt is then encoded in
    pieces that end within these texts, so that no piece holds one of them whole. Neighboring parts of a content that
    together form such a text are separated by another private-use character.

    Args:
        tokenizer: The model's tokenizer.
        given: Nested messages and tools, or the values of a template.
        template: Source of the template.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, given: Any, template: str) -> None:
        self._tokenizer = tokenizer
        texts = "\n".join(_strings(given))
        self._special = _control_tokens(tokenizer, template)
        found = sorted({token for token in self._special if token in texts}, key=len, reverse=True)
        free = (chr(code) for code in range(0xF0000, 0xFFFFE) if chr(code) not in texts)
        self._split = next(free)
        self._written = dict(zip(found, free, strict=False))
        if any(self._are_one(first, second) for first, second in _neighbors(given)):
            self._written[""] = self._split

    def __bool__(self) -> bool:
        return bool(self._written)

    def escape(self, given: Any) -> Any:
        """Return nested messages or tools in which every text of a special token is one character."""
        if isinstance(given, str):
            for token, character in self._written.items():
                given = given.replace(token, character) if token else given
            return given
        if isinstance(given, Mapping):
            return {self.escape(key): self.escape(value) for key, value in given.items()}
        if not isinstance(given, list | tuple):
            return given
        escaped = [self.escape(item) for item in given]
        for i, (first, second) in enumerate(pairwise(given), 1):
            if self._are_one(first, second):
                escaped[i] = {**escaped[i], "text": self._split + escaped[i]["text"]}
        return escaped

    def _are_one(self, first: Any, second: Any) -> bool:
        """Return whether the texts of two neighbors together form the text of a special token."""
        if not all(isinstance(part, Mapping) and isinstance(part.get("text"), str) for part in (first, second)):
            return False
        ends = ((token, first["text"][1 - len(token) :], second["text"][: len(token) - 1]) for token in self._special)
        return any(token in end + beginning for token, end, beginning in ends if len(token) > 1)

    def encode(self, rendered: str, *, add_special_tokens: bool = False) -> list[int]:
        """Return the tokens of a rendered prompt.

        Args:
            rendered: The prompt, rendered with escaped messages, tools or values.
            add_special_tokens: Whether the tokenizer puts its own special tokens before the prompt.
        """
        tokens = {character: token for token, character in self._written.items()}
        pieces = [""]
        for character in rendered:
            token = tokens.get(character)
            if token is None:
                pieces[-1] += character
            else:
                pieces[-1] += token[:1]
                pieces.append(token[1:])
        ids: list[int] = []
        for i, piece in enumerate(pieces):
            first = add_special_tokens and i == 0
            encoded = list(self._tokenizer(piece, add_special_tokens=first, verbose=False)["input_ids"])
            ids += self._continued(encoded) if i and not piece.startswith(" ") else encoded
        return ids

    def _continued(self, ids: list[int]) -> list[int]:
        """Return a piece's tokens without the space that SentencePiece tokenizers put before every text."""
        first = self._tokenizer.convert_ids_to_tokens(ids[:1])
        if not first or not str(first[0]).startswith(_SPACE):
            return ids
        rest = str(first[0]).removeprefix(_SPACE)
        known = self._tokenizer.get_vocab()
        if not rest:
            return ids[1:]
        return [known[rest], *ids[1:]] if rest in known else ids


def _control_tokens(tokenizer: PreTrainedTokenizerBase, template: str) -> set[str]:
    """Return the texts of the tokens that may end a message: special tokens, and others that look like special tokens.

    Several models do not mark tokens such as <|User|> as special. Paired tags such as <think> and </think> are left
    out, since they structure the text of a message, and templates look for them.
    """
    added = [token for token in tokenizer.added_tokens_decoder.values() if token.content]
    texts = {token.content for token in added}

    def is_control(text: str) -> bool:
        partner = text.replace("</", "<", 1) if text.startswith("</") else text.replace("<", "</", 1)
        paired = partner != text and partner in texts
        bracketed = _BRACKETED.fullmatch(text) is not None and text in template and not paired
        return bracketed or _BARRED.fullmatch(text) is not None

    return {token.content for token in added if token.special or is_control(token.content)}


_SPACE = "\u2581"
"""What SentencePiece tokenizers write for a space."""

_BRACKETED = re.compile(rf"{_SPACE}?(?:<\S+>|\[\S+\])")
_BARRED = re.compile(r"<[|\uff5c]\S+[|\uff5c]>")


def _neighbors(given: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every pair of neighbors in the lists of nested messages."""
    if isinstance(given, Mapping):
        for value in given.values():
            yield from _neighbors(value)
    elif isinstance(given, list | tuple):
        yield from pairwise(given)
        for item in given:
            yield from _neighbors(item)


def _strings(given: Any) -> Iterator[str]:
    """Yield every string in nested messages or tools."""
    if isinstance(given, str):
        yield given
    elif isinstance(given, Mapping):
        for key, value in given.items():
            yield from _strings(key)
            yield from _strings(value)
    elif isinstance(given, list | tuple):
        for item in given:
            yield from _strings(item)


def _check_text(prompt: Prompt) -> None:
    """Refuse text with lone surrogates, which stand for bytes that are not UTF-8."""
    for text in _strings(prompt if isinstance(prompt, str) else list(prompt)):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            byte = ord(text[error.start]) - 0xDC00
            what = f"byte 0x{byte:02x}" if 0x80 <= byte <= 0xFF else f"U+{ord(text[error.start]):04X}"
            msg = (
                f"the prompt is no valid UTF-8: {what} at character {error.start}; "
                "convert it first, as with: iconv -f latin1 -t utf-8"
            )
            raise PromptError(msg) from error


def last_user_text(prompt: Prompt) -> str:
    """Return the text of the last user message, in which verifiers look for examples; empty if there is none."""
    if isinstance(prompt, str):
        return str(prompt)
    for message in reversed(prompt):
        if message.get("role") == "user":
            content = message.get("content")
            if isinstance(content, str):
                return content
            parts = content if isinstance(content, Sequence) else ()
            return "\n".join(p["text"] for p in parts if isinstance(p, Mapping) and isinstance(p.get("text"), str))
    return ""


def template_source(tokenizer: PreTrainedTokenizerBase, *, tools: bool) -> str | None:
    """Return the source of the chat template that the tokenizer would use; None if it has none.

    Args:
        tokenizer: The model's tokenizer.
        tools: Whether tools will be given, for which some models have a template of their own.
    """
    template: str | dict[str, str] | None = tokenizer.chat_template
    if isinstance(template, dict):
        chosen = template.get("tool_use") if tools else None
        return chosen or template.get("default")
    return template


def reads_variable(template: str, name: str) -> bool:
    """Return whether a template may read a variable; False is certain, True is not.

    Args:
        template: Source of a chat template.
        name: Name of the variable.
    """
    return re.search(rf"\b{re.escape(name)}\b", template) is not None


def check_chat_template_kwargs(
    tokenizer: PreTrainedTokenizerBase, options: Mapping[str, Any], *, tools: bool = False
) -> None:
    """Refuse variables of the chat template that it does not read, or that the tokenizer sets itself.

    Args:
        tokenizer: The model's tokenizer.
        options: Variables of the chat template.
        tools: See `template_source`.

    Raises:
        ConfigurationError: The template does not read one of the variables, or the tokenizer sets it.
    """
    if not options:
        return
    template = template_source(tokenizer, tools=tools) or ""
    reserved = _reserved(tokenizer)
    for name in options:
        if name in reserved or name in tokenizer.special_tokens_map:
            msg = f"{name!r} of the chat template is set by what is asked, and not as a variable; leave it out"
            raise ConfigurationError(msg)
        if not reads_variable(template, name):
            msg = f"the model's chat template reads no variable {name!r}; leave it out"
            raise ConfigurationError(msg)


def _reserved(tokenizer: PreTrainedTokenizerBase) -> set[str]:
    """Return the names that `apply_chat_template` takes itself or passes to every template."""
    own = inspect.signature(tokenizer.apply_chat_template).parameters
    return set(own) | {"self", "messages", "conversations"}
