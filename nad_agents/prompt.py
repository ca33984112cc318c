"""Turn a caller's prompt into the tokens that the model reads, through the model's chat template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from nad_agents.chat_template import check_chat_template_kwargs, template_source
from nad_agents.exceptions import PromptError
from nad_agents.special_tokens import EscapedTokens, texts_of

if TYPE_CHECKING:
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

__all__ = [
    "Message",
    "Prompt",
    "TemplatedText",
    "encode_prompt",
    "last_user_text",
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
        ConfigurationError: See `nad_agents.chat_template.check_chat_template_kwargs`.
    """
    if not prompt or (isinstance(prompt, str) and not prompt.strip()):
        msg = "the prompt is empty; write what the model should answer"
        raise PromptError(msg)
    _check_text(prompt)
    template = getattr(tokenizer, "chat_template", None)
    if isinstance(prompt, TemplatedText) and raw and not parse_special_tokens:
        marked = EscapedTokens(tokenizer, prompt.values, prompt.template)
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
    escaped = EscapedTokens(tokenizer, [messages, given_tools], written) if not parse_special_tokens else None
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


def _check_text(prompt: Prompt) -> None:
    """Refuse text with lone surrogates, which stand for bytes that are not UTF-8."""
    for text in texts_of(prompt if isinstance(prompt, str) else list(prompt)):
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
