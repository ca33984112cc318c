"""From a conversation and the kind of reply wanted to the prompt and the decoder's options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_nad.calls import CallsPass
from langchain_nad.messages import fit_template, template_source, with_instructions, without_tool_roles
from langchain_nad.replies import Reply
from langchain_nad.tool_calls import ToolFormat, find_format
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
) -> tuple[Messages, dict[str, Any]]:
    """The prompt for a reply of a kind, and the options of `NeuronAgreementDecoder.submit` that go with it.

    Args:
        decoder: will answer.
        conversation: from `template_messages`.
        reply: what is asked for.
        max_new_tokens: token limit of a candidate.
        verifier: of the model; the decoder's holds when it is None. Tool calls pass it unseen.

    Raises:
        MissingDependencyError: the reply needs a grammar and llguidance is not installed.
        ConfigurationError: the grammar cannot be compiled, or the token limit is too low for it.
    """
    loaded = decoder.loaded
    options: dict[str, Any] = {}
    prompt, shown = written_for(loaded.tokenizer, conversation, reply)
    if shown:
        options["tools"] = shown
    if reply.constrained:
        # llguidance is an optional dependency, and torch takes a while to import
        from nad_agents.constrained.decoding import literal_writer, make_processors

        grammar = reply.grammar(_format(loaded.tokenizer), literal_writer(loaded))
        options["logits_processors"] = make_processors(grammar, loaded, max_new_tokens)
    verifier = verifier or decoder.verifier
    if verifier is not None and reply.tools:
        options["verifier"] = CallsPass(verifier, tuple(reply.names))
    return prompt, options


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
    return fit_template(tokenizer, conversation, tools=shown), shown


def _format(tokenizer: PreTrainedTokenizerBase) -> ToolFormat:
    return find_format(template_source(tokenizer, tools=True))
