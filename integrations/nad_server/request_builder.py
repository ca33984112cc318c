"""From a request to what the decoder gets: prompt, sampling, selection, checks. Everything wrong is refused here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nad_agents.chat.output_spec import OutputSpec
from nad_agents.chat.prepare import PreparedChat, prepare, template_inputs
from nad_agents.exceptions import ConfigurationError, PromptError
from nad_agents.prompt import encode_prompt
from nad_agents.selection import check_configuration
from nad_agents.types import NADConfig, SamplingConfig
from nad_agents.verification import Verifier
from nad_server.errors import APIError
from nad_server.protocol import NADOptions, SamplingFields
from nad_server.schema_limits import check_schema

if TYPE_CHECKING:
    from nad_server.state import ServerState

__all__ = ["PreparedRequest", "build_chat_request", "build_text_request"]

_SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
_NOT_CONFIG = {"n", "verify", "include_candidates"}


@dataclass(frozen=True)
class PreparedRequest:
    """One prompt of a request, checked and ready for `NeuronAgreementDecoder.submit`.

    Attributes:
        chat: The prompt, the kind of answer that was asked for, and what parses it.
        returned: Number of answers that the client wants, best first.
        sampling: How candidates are sampled.
        config: How candidates are compared.
        include_candidates: Whether the evidence holds every candidate.
    """

    chat: PreparedChat
    returned: int
    sampling: SamplingConfig
    config: NADConfig
    include_candidates: bool = False

    @property
    def streams_early(self) -> bool:
        """Whether the winner's text can be sent while it is written."""
        decided = self.config.pruning != "never" and self.config.keep == 1 and self.chat.verifier is None
        return decided and self.returned == 1


def build_chat_request(
    state: ServerState,
    request: SamplingFields,
    nad: NADOptions,
    conversation: list[dict[str, Any]],
    arguments: Mapping[str, Any],
    *,
    param: str = "messages",
) -> PreparedRequest:
    """A request in messages; takes as long as tokenizing and compiling a grammar.

    Args:
        state: will answer.
        request: its sampling.
        nad: its options, those of the model's name included.
        conversation: from `template_messages`.
        arguments: tools, tool_choice, parallel_tool_calls and response_format, as OpenAI has them; and
            chat_template_kwargs, from `template_options`.
        param: the request's field with the conversation.

    Raises:
        APIError: what is wrong, and where.
        NADError: likewise.
    """
    loaded = state.decoder.loaded
    if loaded.tokenizer.chat_template is None:
        message = f"{state.name} has no chat template; use /v1/completions"
        raise APIError(400, message, code="no_chat_template", param=param)
    output_spec = _output_spec(arguments)
    prompt, tools = template_inputs(loaded.tokenizer, conversation, output_spec)
    try:
        length = len(
            encode_prompt(loaded.tokenizer, prompt, tools=tools, template_options=output_spec.template_options)
        )
    except PromptError as error:
        raise APIError(400, str(error), code="invalid_prompt", param=param) from error
    sampling, config = _configured(state, request, nad, _room(state, length, request.token_limit, param))
    try:
        chat = prepare(
            state.decoder,
            conversation,
            output_spec,
            max_new_tokens=sampling.max_new_tokens,
            verifier=_verifier(state, nad),
        )
    except ConfigurationError as error:
        param = "tools" if output_spec.forced else "response_format"
        raise APIError(400, str(error), code="invalid_schema", param=param) from error
    return PreparedRequest(chat, request.n or 1, sampling, config, nad.include_candidates)


def build_text_request(state: ServerState, request: SamplingFields, nad: NADOptions, text: str) -> PreparedRequest:
    """A request in plain text, which the model continues.

    Raises:
        APIError: what is wrong, and where.
        NADError: likewise.
    """
    try:
        length = len(encode_prompt(state.decoder.loaded.tokenizer, text, raw=True))
    except PromptError as error:
        raise APIError(400, str(error), code="invalid_prompt", param="prompt") from error
    sampling, config = _configured(state, request, nad, _room(state, length, request.token_limit, "prompt"))
    chat = PreparedChat(text, raw=True, verifier=_verifier(state, nad))
    return PreparedRequest(chat, request.n or 1, sampling, config, nad.include_candidates)


def _output_spec(arguments: Mapping[str, Any]) -> OutputSpec:
    tools: Sequence[Mapping[str, Any]] = arguments.get("tools") or ()
    for i, tool in enumerate(tools):
        check_schema(tool["function"].get("parameters") or {}, f"tools.{i}.function.parameters")
    shape = arguments.get("response_format") or {}
    if shape.get("type") == "json_schema":
        check_schema(shape["json_schema"]["schema"], "response_format.json_schema.schema")
    try:
        return OutputSpec.from_arguments(arguments)
    except ConfigurationError as error:
        param = "tool_choice" if "tool_choice" in str(error) else "tools"
        raise APIError(400, str(error), code="invalid_value", param=param) from error


def _room(state: ServerState, prompt: int, asked: int | None, param: str) -> int:
    """Tokens that the answer may have."""
    settings, context = state.settings, state.decoder.loaded.context_length
    longest = settings.max_prompt_tokens
    if longest is not None and prompt > longest:
        message = f"the prompt has {prompt} tokens and this server takes {longest}; shorten it"
        raise APIError(400, message, code="context_length_exceeded", param=param)
    if context is None:
        return asked or settings.max_tokens
    left = context - prompt
    if left < 1 or (asked is not None and asked > left):
        wanted = f" and {asked} for the answer" if asked is not None else ""
        message = (
            f"this model's maximum context length is {context} tokens, and you asked for {prompt} in the "
            f"{param}{wanted}; shorten one of them"
        )
        raise APIError(400, message, code="context_length_exceeded", param=param)
    return asked or min(settings.max_tokens, left)


def _configured(
    state: ServerState, request: SamplingFields, nad: NADOptions, max_new_tokens: int
) -> tuple[SamplingConfig, NADConfig]:
    decoder, settings = state.decoder, state.settings
    returned = request.n or 1
    changes: dict[str, Any] = {name: value for name in _SAMPLING if (value := getattr(request, name)) is not None}
    if request.temperature is not None:
        changes["temperature"] = max(request.temperature, settings.min_temperature)
    greedy = changes.get("temperature", decoder.sampling.temperature) == 0
    # 1. how many candidates
    n = nad.n or (1 if greedy else max(decoder.sampling.n, returned))
    if n < returned:
        message = f"n={returned} answers cannot be chosen among {n} candidates; raise nad.n, or temperature above 0"
        raise APIError(400, message, code="invalid_value", param="n")
    if n > settings.max_candidates:
        message = f"{n} candidates are more than the {settings.max_candidates} that this server allows"
        raise APIError(400, message, code="invalid_value", param="nad.n" if nad.n else "n")
    if request.seed is not None:
        changes["seed"] = request.seed % 2**63
    if request.stop is not None:
        changes["stop"] = request.stop
    # 2. how one is chosen; one alone needs no choice
    chosen = {k: v for k, v in nad.model_dump(exclude_none=True).items() if k not in _NOT_CONFIG}
    if n == 1 and "selector" not in chosen:
        chosen |= {"selector": "first", "selector_options": {}, "pruning": "never"}
    elif chosen.get("selector", decoder.config.selector) != decoder.config.selector:
        chosen = {"selector_options": {}, **chosen}
    if chosen.get("selector") == "behaviour":
        chosen["selector_options"] = {**chosen.get("selector_options", {}), **_runner(state)}
    try:
        sampling = SamplingConfig(
            **{**decoder.sampling.model_dump(), **changes, "n": n, "max_new_tokens": max_new_tokens}
        )
        config = NADConfig(**{**_fields(decoder.config), **chosen})
        check_configuration(sampling, config)
    except ConfigurationError as error:
        raise APIError(400, str(error), code="invalid_value", param=_named_in(str(error), nad)) from error
    if config.pruning != "never" and config.keep < returned:
        message = f"pruning keeps {config.keep} candidates, which are fewer than n={returned}; raise nad.keep"
        raise APIError(400, message, code="invalid_value", param="n")
    return sampling, config


def _fields(config: NADConfig) -> dict[str, Any]:
    """The fields as they are, a selector's runner included, which dumping would take apart."""
    return {name: getattr(config, name) for name in type(config).model_fields}


def _runner(state: ServerState) -> dict[str, Any]:
    if state.runner is None:
        message = "selector 'behaviour' runs code, and this server was started without a sandbox (nad serve --verify)"
        raise APIError(400, message, code="no_sandbox", param="nad.selector")
    return {"runner": state.runner}


def _verifier(state: ServerState, nad: NADOptions) -> Verifier | None:
    if nad.verify and state.verifier is None:
        message = "this server was started without a sandbox (nad serve --verify), and runs no code without one"
        raise APIError(400, message, code="no_sandbox", param="nad.verify")
    return None if nad.verify is False else state.verifier


def _named_in(message: str, nad: NADOptions) -> str:
    """The parameter that a message is about."""
    if any(f"{name}=" in message or repr(name) in message for name in nad.selector_options or ()):
        return "nad.selector_options"
    return next((f"nad.{name}" for name in nad.model_fields_set if name in message), "nad")
