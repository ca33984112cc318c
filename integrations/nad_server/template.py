"""The variables of the model's chat template that a request sets, in the words of several servers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nad_agents.chat_templates import check_template_options, reads_variable, template_source
from nad_agents.exceptions import ConfigurationError
from nad_server.errors import APIError
from nad_server.wire import TemplateFields

if TYPE_CHECKING:
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

__all__ = ["template_options"]


def template_options(tokenizer: PreTrainedTokenizerBase, request: TemplateFields, *, tools: bool) -> dict[str, Any]:
    """The variables of the chat template that a request sets; what `chat_template_kwargs` says wins.

    Args:
        tokenizer: of the model.
        request: the body.
        tools: whether it has tools; some models have a template of their own for that.

    Raises:
        APIError: names the parameter that the template does not read, or that is not the caller's.
    """
    template = template_source(tokenizer, tools=tools) or ""
    param, effort = request.effort
    found: dict[str, tuple[str, Any]] = {}
    if effort is not None:
        if reads_variable(template, "reasoning_effort"):
            found["reasoning_effort"] = (param, effort)
        elif effort != "none":
            message = f"{param}: the model has no levels of reasoning, only 'none' can be asked for; leave it out"
            raise APIError(400, message, code="unsupported_parameter", param=param)
        elif reads_variable(template, "enable_thinking"):
            found["enable_thinking"] = (param, False)
    if request.enable_thinking is not None:
        found["enable_thinking"] = ("enable_thinking", request.enable_thinking)
    for name, value in (request.chat_template_kwargs or {}).items():
        found[name] = (f"chat_template_kwargs.{name}", value)
    for name, (said_by, value) in found.items():
        try:
            check_template_options(tokenizer, {name: value}, tools=tools)
        except ConfigurationError as error:
            message = f"{said_by}: {error}"
            raise APIError(400, message, code="unsupported_parameter", param=said_by) from error
    return {name: value for name, (_, value) in found.items()}
