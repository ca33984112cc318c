"""From a conversation and the kind of reply wanted to the prompt and the decoder's options."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from langchain_nad.calls import CallsPass
from langchain_nad.messages import fit_template, with_instructions, without_tool_roles
from langchain_nad.readers import AnswerReader, FamilyReader, TemplateReader, response_template
from langchain_nad.replies import Reply
from langchain_nad.tool_calls import ToolFormat, find_format
from nad_agents.chat_templates import template_source
from nad_agents.verification import Verifier

if TYPE_CHECKING:
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

    from nad_agents.decoder import NeuronAgreementDecoder

__all__ = ["ask", "written_for"]

Messages = list[dict[str, Any]]


def ask(
    decoder: NeuronAgreementDecoder,
    conversation: Messages,
    reply: Reply,
    max_new_tokens: int,
    verifier: Verifier | None,
) -> tuple[Messages, dict[str, Any], AnswerReader]:
    """The prompt for a reply of a kind, the options of `NeuronAgreementDecoder.submit`, and what reads the answers.

    Args:
        decoder: will answer.
        conversation: from `template_messages`.
        reply: what is asked for.
        max_new_tokens: token limit of a candidate.
        verifier: of the model; the decoder's holds when it is None. Tool calls pass it unseen.

    Raises:
        MissingDependencyError: the reply needs a grammar and llguidance is not installed.
        ConfigurationError: the grammar cannot be compiled, the token limit is too low for it, or transformers does
            not understand the tokenizer's response template.
    """
    loaded = decoder.loaded
    options: dict[str, Any] = {}
    prompt, shown = written_for(loaded.tokenizer, conversation, reply)
    if shown:
        options["tools"] = shown
    if reply.template_options:
        options["template_options"] = reply.template_options
    if reply.constrained:
        # llguidance is an optional dependency, and torch takes a while to import
        from nad_agents.constrained.decoding import literal_writer, make_processors

        grammar = reply.grammar(_format(loaded.tokenizer), literal_writer(loaded))
        options["logits_processors"] = make_processors(grammar, loaded, max_new_tokens)
    reader: AnswerReader = FamilyReader(tuple(reply.names))
    # what a grammar holds is written as the family writes it
    if not reply.constrained and response_template(loaded.tokenizer) is not None:
        reader = TemplateReader(loaded.tokenizer, _as_text(loaded.tokenizer, prompt, shown, reply), reply.tools)
        options["visible_tokens"] = reader.marks
    verifier = verifier or decoder.verifier
    if verifier is not None and (reply.tools or isinstance(reader, TemplateReader)):
        options["verifier"] = CallsPass(verifier, reader)
    return prompt, options, reader


def _as_text(tokenizer: PreTrainedTokenizerBase, prompt: Messages, tools: list[Any], reply: Reply) -> str:
    options: dict[str, Any] = {"tools": tools or None, "tokenize": False, "add_generation_prompt": True}
    try:
        return str(tokenizer.apply_chat_template(prompt, **options, **reply.template_options))
    except Exception:  # noqa: BLE001 - Jinja raises whatever the template's author chose, and the decoder reports it
        return ""


def written_for(
    tokenizer: PreTrainedTokenizerBase, conversation: Messages, reply: Reply
) -> tuple[Messages, list[dict[str, Any]]]:
    """Messages as the model's chat template takes them, and the tools that go into the template.

    A template that knows no tools gets them described in the system message, and earlier calls and results as text.
    """
    form = _format(tokenizer)
    if not form.in_template:
        conversation = without_tool_roles(conversation, form if reply.tools else None)
    shown = list(reply.tools) if form.in_template else []
    conversation = with_instructions(conversation, reply.instructions(form))
    return fit_template(tokenizer, conversation, tools=shown, template_options=reply.template_options), shown


def _format(tokenizer: PreTrainedTokenizerBase) -> ToolFormat:
    template = template_source(tokenizer, tools=True)
    form = find_format(template)
    # with a response template, calls of families that are unknown here are read as well
    own = not form.in_template and "tools" in (template or "") and response_template(tokenizer) is not None
    return replace(form, in_template=True) if own else form
