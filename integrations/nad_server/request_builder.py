"""From the body of a request to a `PreparedRequest`, which the decoder takes; whatever is wrong is refused here."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nad_agents.chat.edit_steps import last_look
from nad_agents.chat.output_spec import OutputSpec
from nad_agents.chat.prepare import PreparedChat, prepare, template_inputs
from nad_agents.chat.shown_text import shown_text
from nad_agents.chat.step_selector import StepSelector
from nad_agents.exceptions import ConfigurationError, PromptError
from nad_agents.neurons.comparison import ComparisonConfig
from nad_agents.neurons.recording_config import RecordingConfig
from nad_agents.prompt import encode_prompt
from nad_agents.selection import check_configuration, make_selector
from nad_agents.types import BEHAVIOUR_SELECTORS, NADConfig, SamplingConfig
from nad_agents.verification import Verifier
from nad_server.errors import APIError
from nad_server.nad_options import NADOptions
from nad_server.protocol import NamedTool, ResponseFormat, SamplingFields, Tool, ToolChoice
from nad_server.schema_limits import check_schema

if TYPE_CHECKING:
    from nad_server.state import ServerState

__all__ = ["PreparedRequest", "build_chat_request", "build_output_spec", "build_text_request"]

_LEAST_TOKENS = 1024
"""Scarce memory lowers the token limit of a request that sets none to no less than this; then it is refused."""

_UNCHANGED = ("top_p", "top_k", "min_p", "repetition_penalty", "stop")
"""The body's parameters that go into the `SamplingConfig` as they are."""


@dataclass(frozen=True)
class PreparedRequest:
    """One prompt of a request, checked and ready for `NeuronAgreementDecoder.submit`.

    Attributes:
        chat: The prompt, the requested kind of answer, and its parser.
        num_choices: Number of choices in the response, best first.
        sampling: How candidates are sampled.
        config: How candidates are compared.
        include_candidates: Whether the evidence holds every candidate.
        ignored: Parts of the request that have no effect: parameters that are hints, and tools that cannot be
            offered.
    """

    chat: PreparedChat
    num_choices: int
    sampling: SamplingConfig
    config: NADConfig
    include_candidates: bool = False
    ignored: tuple[str, ...] = ()

    @property
    def can_stream_text(self) -> bool:
        """Whether the winner is known, and its text can be sent, while it is generated."""
        one_survives = self.config.pruning != "never" and self.config.keep == 1
        return one_survives and self.chat.verifier is None and self.num_choices == 1


def build_output_spec(
    tools: Sequence[Tool],
    tool_choice: ToolChoice | None,
    parallel_tool_calls: bool | None,
    response_format: ResponseFormat | None,
    chat_template_kwargs: Mapping[str, Any],
) -> OutputSpec:
    """Return the kind of answer that a request asks for.

    Args:
        tools: The tools on offer.
        tool_choice: Which tool has to be called, if any.
        parallel_tool_calls: Whether the answer may hold several calls.
        response_format: The form of an answer that is not a tool call.
        chat_template_kwargs: Variables of the chat template, from `read_chat_template_kwargs`.

    Raises:
        APIError: The tools do not go together with the choice, or a schema is malformed or too large.
    """
    for i, tool in enumerate(tools):
        check_schema(tool.function.parameters or {}, f"tools.{i}.function.parameters")
    output_format = None
    if response_format is not None:
        output_format = response_format.model_dump(by_alias=True, exclude_none=True)
        if response_format.type == "json_schema" and response_format.json_schema is not None:
            check_schema(response_format.json_schema.json_schema, "response_format.json_schema.schema")
    choice = tool_choice.model_dump(exclude_none=True) if isinstance(tool_choice, NamedTool) else tool_choice
    try:
        return OutputSpec.from_arguments(
            {
                "tools": [tool.model_dump(exclude_none=True) for tool in tools],
                "tool_choice": choice,
                "parallel_tool_calls": parallel_tool_calls,
                "response_format": output_format,
                "chat_template_kwargs": chat_template_kwargs,
            }
        )
    except ConfigurationError as error:
        param = "tool_choice" if "tool_choice" in str(error) else "tools"
        raise APIError(400, str(error), code="invalid_value", param=param) from error


def build_chat_request(
    state: ServerState,
    body: SamplingFields,
    nad: NADOptions,
    messages: list[dict[str, Any]],
    output_spec: OutputSpec,
    *,
    param: str = "messages",
    ignored: Sequence[str] = (),
) -> PreparedRequest:
    """Prepare a conversation; it takes as long as tokenizing it and compiling a grammar.

    Args:
        state: The server's state.
        body: The body of the request, with its sampling parameters.
        nad: The NAD options, those behind the model's name included.
        messages: The conversation, from `template_messages`.
        output_spec: The kind of answer, from `build_output_spec`.
        param: The field of the body that holds the conversation.
        ignored: See `PreparedRequest`.

    Raises:
        APIError: The request cannot be answered; the error names the parameter.
        NADError: See `nad_agents.chat.prepare.prepare`.
    """
    loaded = state.decoder.loaded
    if loaded.tokenizer.chat_template is None:
        message = f"{state.name} has no chat template; use /v1/completions"
        raise APIError(400, message, code="no_chat_template", param=param)
    prompt, tools = template_inputs(loaded.tokenizer, messages, output_spec)
    try:
        ids = encode_prompt(
            loaded.tokenizer, prompt, tools=tools, chat_template_kwargs=output_spec.chat_template_kwargs
        )
    except PromptError as error:
        raise APIError(400, str(error), code="invalid_prompt", param=param) from error
    sampling, config = _combined_configs(state, body, nad, ids, param)
    verifier = _chosen_verifier(state, nad)
    try:
        chat = prepare(state.decoder, messages, output_spec, max_new_tokens=sampling.max_new_tokens, verifier=verifier)
    except ConfigurationError as error:
        if "max_tokens=" in str(error):
            raise _limit_too_low(state, body, len(ids), sampling.max_new_tokens, str(error), param) from error
        param = "tools" if output_spec.forced else "response_format"
        raise APIError(400, str(error), code="invalid_schema", param=param) from error
    config = _with_steps(config, chat, messages, output_spec)
    return PreparedRequest(chat, body.n or 1, sampling, config, nad.include_candidates, tuple(ignored))


def _with_steps(
    config: NADConfig, chat: PreparedChat, messages: Sequence[Mapping[str, Any]], output_spec: OutputSpec
) -> NADConfig:
    """Compare the candidates of a coding agent as steps, unless pruning compares beginnings of answers."""
    # the words with which Cline and aider ask for edits in the text
    texts = [str(message.get("content")) for message in messages]
    edits = any(words in text for text in texts for words in ("SEARCH", "*file listing*"))
    if config.pruning != "never" or not (output_spec.tools or edits):
        return config
    schemas = {tool["function"]["name"]: tool["function"].get("parameters") or {} for tool in output_spec.tools}
    inner = make_selector(config, ComparisonConfig.from_config(config))
    steps = StepSelector(inner, chat.parser, shown_text(messages), schemas, last_look(messages))
    return config.model_copy(update={"selector": steps, "selector_options": {}})


def build_text_request(
    state: ServerState, body: SamplingFields, nad: NADOptions, text: str, *, ignored: Sequence[str] = ()
) -> PreparedRequest:
    """Prepare a text that the model continues.

    Args:
        state: The server's state.
        body: The body of the request, with its sampling parameters.
        nad: The NAD options, those behind the model's name included.
        text: The text.
        ignored: See `PreparedRequest`.

    Raises:
        APIError: The request cannot be answered; the error names the parameter.
    """
    try:
        ids = encode_prompt(state.decoder.loaded.tokenizer, text, raw=True)
    except PromptError as error:
        raise APIError(400, str(error), code="invalid_prompt", param="prompt") from error
    sampling, config = _combined_configs(state, body, nad, ids, "prompt")
    chat = PreparedChat(text, raw=True, verifier=_chosen_verifier(state, nad))
    return PreparedRequest(chat, body.n or 1, sampling, config, nad.include_candidates, tuple(ignored))


def _room(state: ServerState, prompt_tokens: int, param: str) -> int | None:
    """Return how many tokens a prompt leaves for the answer, None if any number; refuse one that leaves none."""
    longest, context = state.settings.max_prompt_tokens, state.decoder.loaded.context_length
    if longest is not None and prompt_tokens > longest:
        message = f"the prompt has {prompt_tokens} tokens and this server takes {longest}; shorten it"
        raise APIError(400, message, code="context_length_exceeded", param=param)
    if context is not None and prompt_tokens >= context:
        message = (
            f"this model's maximum context length is {context} tokens, and you asked for {prompt_tokens} in the "
            f"{param}; shorten it"
        )
        raise APIError(400, message, code="context_length_exceeded", param=param)
    return None if context is None else context - prompt_tokens


def _limit_too_low(
    state: ServerState, body: SamplingFields, prompt_tokens: int, limit: int, reason: str, param: str
) -> APIError:
    """Return the error for an answer that has to fit a grammar and has too few tokens for it."""
    if limit == _room(state, prompt_tokens, param) != body.token_limit:
        message = f"{reason.partition(';')[0].replace('max_tokens=', 'the prompt leaves ')}; shorten the {param}"
        return APIError(400, message, code="context_length_exceeded", param=param)
    name = body.token_limit_param
    return APIError(400, reason.replace("max_tokens", name), code="invalid_value", param=name)


def _combined_configs(
    state: ServerState, body: SamplingFields, nad: NADOptions, prompt_ids: Sequence[int], param: str
) -> tuple[SamplingConfig, NADConfig]:
    """Return the decoder's configs with what a request changes in them, after checking that they go together.

    A token limit beyond the room that the prompt leaves in the context is lowered to that room. A request that sets no
    limit gets the server's, or less where memory is short.
    """
    room = _room(state, len(prompt_ids), param)
    limit = min(body.token_limit or state.settings.max_tokens, room or sys.maxsize)
    temperature, num_choices = _temperature(state, body), body.n or 1
    n = _number_of_candidates(state, nad, num_choices, greedy=temperature == 0)
    try:
        sampling = _sampling_config(state, body, n=n, temperature=temperature, max_new_tokens=limit)
        config = _nad_config(state, nad, n)
        check_configuration(sampling, config)
        if config.record and config.layers is not None:
            state.decoder.engine.layout(RecordingConfig(layers=config.layers))
    except ConfigurationError as error:
        raise APIError(400, str(error), code="invalid_value", param=_option_named_in(str(error), nad)) from error
    if config.until == "passed" and _chosen_verifier(state, nad) is None:
        message = "until='passed' needs checks, and none are made (nad serve --verify, nad.verify); use until='decided'"
        raise APIError(400, message, code="no_sandbox", param="nad.until")
    if config.until is not None and num_choices > 1:
        message = f"until={config.until!r} may end with fewer than n={num_choices} answers; leave one of them out"
        raise APIError(400, message, code="invalid_value", param="nad.until")
    if config.pruning != "never" and config.keep < num_choices:
        message = f"pruning keeps {config.keep} candidates, which are fewer than n={num_choices}; raise nad.keep"
        raise APIError(400, message, code="invalid_value", param="n")
    if limit != body.token_limit and limit > _LEAST_TOKENS:
        fitting = state.decoder.fitting_token_limit(prompt_ids, sampling=sampling, config=config)
        sampling = sampling.model_copy(update={"max_new_tokens": max(_LEAST_TOKENS, fitting)})
    return sampling, config


def _temperature(state: ServerState, body: SamplingFields) -> float:
    if body.temperature is None:
        return state.decoder.sampling.temperature
    return max(body.temperature, state.settings.min_temperature)


def _number_of_candidates(state: ServerState, nad: NADOptions, num_choices: int, *, greedy: bool) -> int:
    """Return how many candidates are sampled: by default the decoder's number, and one for greedy decoding."""
    n = nad.n or (1 if greedy else max(state.decoder.sampling.n, num_choices))
    if n < num_choices:
        message = f"n={num_choices} answers cannot be chosen among {n} candidates; raise nad.n, or temperature above 0"
        raise APIError(400, message, code="invalid_value", param="n")
    if n > state.settings.max_candidates:
        message = f"{n} candidates are more than the {state.settings.max_candidates} that this server allows"
        raise APIError(400, message, code="invalid_value", param="nad.n" if nad.n else "n")
    return n


def _sampling_config(
    state: ServerState, body: SamplingFields, *, n: int, temperature: float, max_new_tokens: int
) -> SamplingConfig:
    changes = {name: value for name in _UNCHANGED if (value := getattr(body, name)) is not None}
    if body.seed is not None:
        # a client may send a negative seed
        changes["seed"] = body.seed % 2**63
    changes |= {"n": n, "temperature": temperature, "max_new_tokens": max_new_tokens}
    return SamplingConfig(**{**dict(state.decoder.sampling), **changes})


def _nad_config(state: ServerState, nad: NADOptions, n: int) -> NADConfig:
    config, changes = state.decoder.config, nad.config_changes
    if n == 1 and nad.selector is None:
        # one candidate needs no choice
        changes |= {"selector": "first", "selector_options": {}, "pruning": "never"}
    elif nad.selector not in {None, config.selector}:
        # the decoder's options are those of its own selector
        changes = {"selector_options": {}, **changes}
    if nad.selector == "auto" and state.runner is not None:
        changes["selector_options"] = {"runner": state.runner, **changes.get("selector_options", {})}
    if nad.selector in BEHAVIOUR_SELECTORS:
        changes["selector_options"] = {**changes.get("selector_options", {}), "runner": _behaviour_runner(state)}
    # dumping a config would take the objects among a selector's options apart
    return NADConfig(**{**dict(config), **changes})


def _behaviour_runner(state: ServerState) -> Any:
    if state.runner is None:
        message = "this selector runs code, and this server was started without a sandbox (nad serve --verify)"
        raise APIError(400, message, code="no_sandbox", param="nad.selector")
    return state.runner


def _chosen_verifier(state: ServerState, nad: NADOptions) -> Verifier | None:
    if nad.verify and state.verifier is None:
        message = "this server was started without a sandbox (nad serve --verify), and runs no code without one"
        raise APIError(400, message, code="no_sandbox", param="nad.verify")
    return None if nad.verify is False else state.verifier


def _option_named_in(message: str, nad: NADOptions) -> str:
    """Return the NAD option that an error message is about."""
    if any(f"{name}=" in message or repr(name) in message for name in nad.selector_options or ()):
        return "nad.selector_options"
    given = sorted(nad.model_fields_set)
    # a message that contains an option's value is about that option, even if it mentions others
    named = [name for name in given if f"{name}=" in message] or [name for name in given if name in message]
    return f"nad.{named[0]}" if named else "nad"
