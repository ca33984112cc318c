"""`prepare`: turn a conversation and the requested kind of answer into a `PreparedChat` for the decoder."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from nad_agents.chat.content_verifier import ContentVerifier
from nad_agents.chat.messages import fit_template, with_instructions, without_tool_roles
from nad_agents.chat.output_spec import OutputSpec
from nad_agents.chat.response_parser import ResponseParser, TemplateResponseParser, ToolCallParser, response_template
from nad_agents.chat.tool_formats import CALL_MARKS, ToolFormat, find_format
from nad_agents.chat.tools import argument_schemas
from nad_agents.chat_template import template_source
from nad_agents.prompt import Prompt
from nad_agents.verification import Verifier

if TYPE_CHECKING:
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

    from nad_agents.decoder import NeuronAgreementDecoder

__all__ = ["PreparedChat", "prepare", "template_inputs"]

Messages = list[dict[str, Any]]


@dataclass(frozen=True)
class PreparedChat:
    """A prompt that is ready for `NeuronAgreementDecoder.submit`, with the parser for its answers.

    Attributes:
        prompt: Messages as the model's chat template takes them, or text.
        output_spec: The kind of answer that is asked for.
        parser: Takes the answers apart.
        raw: Whether text goes to the model as it is, without the chat template.
        tools: Tools for the chat template, in OpenAI's form.
        chat_template_kwargs: Further variables of the chat template.
        logits_processors: Makes the logits processors that hold the candidates to a grammar; None without a grammar.
        visible_tokens: Special tokens that stay in the text because the parser looks for them.
        verifier: Judges the answers in rank order; None trusts the ranking.
        parse_special_tokens: Whether the text of a special token in a message becomes that token.
    """

    prompt: Prompt
    output_spec: OutputSpec = field(default_factory=OutputSpec)
    parser: ResponseParser = field(default_factory=ToolCallParser)
    raw: bool = False
    tools: Sequence[Mapping[str, Any]] = ()
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    logits_processors: Callable[[], Sequence[Any]] | None = None
    visible_tokens: Collection[int] = ()
    verifier: Verifier | None = None
    parse_special_tokens: bool = False


def prepare(
    decoder: NeuronAgreementDecoder,
    messages: Messages,
    output_spec: OutputSpec,
    *,
    max_new_tokens: int,
    verifier: Verifier | None,
) -> PreparedChat:
    """Turn a conversation and the requested kind of answer into a prompt and a parser for the decoder.

    Args:
        decoder: The decoder that will answer.
        messages: The conversation in OpenAI's form.
        output_spec: The kind of answer that is asked for.
        max_new_tokens: Token limit of each candidate.
        verifier: Judges the answers, without tool calls and without the model's thinking; None trusts the ranking.

    Raises:
        MissingDependencyError: The answer needs a grammar and llguidance is not installed.
        ConfigurationError: The grammar cannot be compiled, the token limit is too low for it, or transformers does
            not understand the tokenizer's response template.
    """
    loaded = decoder.loaded
    # 1. the prompt
    prompt, tools = template_inputs(loaded.tokenizer, messages, output_spec)
    # 2. the grammar
    logits_processors = None
    if output_spec.constrained:
        # llguidance is an optional dependency, and torch takes a while to import
        from nad_agents.constrained.decoding import literal_writer, make_processors

        grammar = output_spec.grammar(_tool_format(loaded.tokenizer), literal_writer(loaded))
        logits_processors = make_processors(grammar, loaded, max_new_tokens)
    # 3. the parser; a grammar's answers are in the family's tool format, which ToolCallParser reads
    parser: ResponseParser
    visible_tokens: Collection[int] = ()
    prefix = "" if output_spec.constrained else _rendered(loaded.tokenizer, prompt, tools, output_spec)
    if not output_spec.constrained and response_template(loaded.tokenizer) is not None:
        parser = TemplateResponseParser(loaded.tokenizer, prefix, output_spec.tools)
        visible_tokens = parser.special_tokens
    else:
        tool_format = _tool_format(loaded.tokenizer)
        parser = ToolCallParser(
            names=tuple(output_spec.names),
            schemas=argument_schemas(output_spec.tools),
            marked=bool(tool_format.begin or tool_format.opening) and not output_spec.constrained,
            thinking=not output_spec.constrained,
            thinking_opened=prefix.rstrip().endswith("<think>"),
        )
        if not output_spec.constrained:
            visible_tokens = _marks(loaded.tokenizer, tools=bool(output_spec.tools))
    # 4. the verifier
    if verifier is not None and (output_spec.tools or not output_spec.constrained):
        verifier = ContentVerifier(verifier, parser)
    return PreparedChat(
        prompt=prompt,
        output_spec=output_spec,
        parser=parser,
        tools=tools,
        chat_template_kwargs=output_spec.chat_template_kwargs,
        logits_processors=logits_processors,
        visible_tokens=visible_tokens,
        verifier=verifier,
    )


def _marks(tokenizer: PreTrainedTokenizerBase, *, tools: bool) -> list[int]:
    """Return the special tokens that mark thinking and calls, which decoding would leave out of the text."""
    marks = {"<think>", "</think>", *(CALL_MARKS if tools else ())}
    return [i for i, token in tokenizer.added_tokens_decoder.items() if token.special and token.content in marks]


def _rendered(tokenizer: PreTrainedTokenizerBase, prompt: Messages, tools: list[Any], output_spec: OutputSpec) -> str:
    """Return the prompt as text, empty where the template raises: the decoder reports that error."""
    options: dict[str, Any] = {"tools": tools or None, "tokenize": False, "add_generation_prompt": True}
    try:
        return str(tokenizer.apply_chat_template(prompt, **options, **output_spec.chat_template_kwargs))
    except Exception:  # noqa: BLE001 - Jinja raises whatever the template's author chose
        return ""


def template_inputs(
    tokenizer: PreTrainedTokenizerBase, messages: Messages, output_spec: OutputSpec
) -> tuple[Messages, list[dict[str, Any]]]:
    """Return the messages as the model's chat template takes them, and the tools that go into the template.

    For a template that knows no tools, the system message describes them, and earlier calls and results become text.

    Args:
        tokenizer: The model's tokenizer.
        messages: The conversation in OpenAI's form.
        output_spec: The kind of answer that is asked for.
    """
    tool_format = _tool_format(tokenizer)
    if not tool_format.in_template:
        messages = without_tool_roles(messages, tool_format if output_spec.tools else None)
    tools = list(output_spec.tools) if tool_format.in_template else []
    messages = with_instructions(messages, output_spec.instructions(tool_format))
    return fit_template(tokenizer, messages, tools=tools, chat_template_kwargs=output_spec.chat_template_kwargs), tools


def _tool_format(tokenizer: PreTrainedTokenizerBase) -> ToolFormat:
    template = template_source(tokenizer, tools=True)
    found = find_format(template)
    # with a response template, calls of families that are unknown here are read as well
    unknown_family = not found.in_template and "tools" in (template or "")
    if unknown_family and response_template(tokenizer) is not None:
        return replace(found, in_template=True)
    return found
