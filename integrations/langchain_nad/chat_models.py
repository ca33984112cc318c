"""`NADChatModel`: a LangChain chat model whose every answer is chosen among N candidates by neuron agreement."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, closing
from typing import Any, ClassVar

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import LangSmithParams, LanguageModelInput, ModelProfile
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.tools import BaseTool
from pydantic import BaseModel, Field, model_validator

from langchain_nad.callbacks import ProgressReporter
from langchain_nad.errors import PromptOverflowError
from langchain_nad.inherited_fields import CHAT_FIELDS, LANGUAGE_MODEL_FIELDS
from langchain_nad.messages import template_messages
from langchain_nad.outputs import PROVIDER, LangChainChat
from langchain_nad.structured_output import StructuredMethod, structured_output
from langchain_nad.tools import openai_tools
from nad_agents import __version__
from nad_agents.chat.cache_key import object_name
from nad_agents.chat.local_chat_model import LocalChatModel
from nad_agents.chat.prepare import template_inputs
from nad_agents.chat.tools import tool_choice_name
from nad_agents.events import Finished, Progress
from nad_agents.exceptions import PromptTooLongError
from nad_agents.pending import submit_in_thread

__all__ = ["NADChatModel"]

_CORE_ARGUMENTS = {"stream", "ls_structured_output_format", "structured_output_format"}
"""Arguments of a call that langchain-core itself adds."""


class NADChatModel(LocalChatModel, BaseChatModel):
    """A local Hugging Face model that answers with the best of N candidates.

    The candidates are sampled in one batch and ranked by how much their activated neurons agree
    (arXiv 2510.26277). With a verifier the ranking is walked down until a candidate passes. Parameters of sampling and
    selection may also be given per call, as in ``chat.invoke(text, n=4)`` or ``chat.bind(temperature=0.3)``.

    Example:
        .. code-block:: python

            from langchain_nad import NADChatModel

            chat = NADChatModel(model="Qwen/Qwen2.5-Coder-1.5B-Instruct", n=16)
            answer = chat.invoke("Write a Python function that reverses a string.")
            answer.response_metadata["nad"]["ranking"]

    Weights are loaded at the first call and shared by every instance of the process with the same model, device and
    dtype; their calls share batches. Errors are those of `nad_agents.exceptions`. Two models are equal when their
    parameters are.

    Raises:
        ConfigurationError: A parameter is unknown, has a value that cannot work, or does not go with another.
    """

    base_field_descriptions: ClassVar[Mapping[str, str]] = LANGUAGE_MODEL_FIELDS | CHAT_FIELDS
    hidden_in_repr: ClassVar[frozenset[str]] = frozenset({"metadata", "profile"})

    streaming: bool = Field(
        default=False, description="Whether `invoke` goes through `stream`, for callbacks that want tokens."
    )

    @model_validator(mode="after")
    def _set_nad_version(self) -> NADChatModel:
        self._add_version("nad-agents", __version__)
        return self

    # --- what LangChain reads of the model ---

    @property
    def _llm_type(self) -> str:
        return "nad-chat"

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """Return True: `langchain_core.load.dumpd` writes models without verifier, decoder or callable selector."""
        return True

    @property
    def lc_attributes(self) -> dict[str, Any]:
        """The configs as plain data, which the constructor takes as well."""
        configs = {"nad_config": self.nad_config, "verification": self.verification}
        return {name: config.model_dump(mode="json") for name, config in configs.items() if config is not None}

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return self.identity()

    def _get_llm_string(self, stop: list[str] | None = None, **kwargs: Any) -> str:
        """Return the key of LangChain's cache: the model's identity and the arguments of the call."""
        # langchain-core caches a message in the form that output_version asks for
        key = [self._identifying_params, self.output_version, stop, kwargs]
        return json.dumps(key, sort_keys=True, default=object_name)

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop or self.stop or None, **kwargs)
        params["ls_provider"] = PROVIDER
        params["ls_model_name"] = str(kwargs.get("model") or self.effective_model_name)
        return params

    def _resolve_model_profile(self) -> ModelProfile | None:
        profile = ModelProfile(
            name=self.model_name,
            open_weights=True,
            text_inputs=True,
            image_inputs=False,
            audio_inputs=False,
            video_inputs=False,
            pdf_inputs=False,
            text_outputs=True,
            tool_calling=True,
            structured_output=True,
        )
        from nad_agents.models.known_context import known_context_length

        decoder = self.decoder
        length = known_context_length(self.model_name) if decoder is None else decoder.engine.context_length
        if length:
            profile["max_input_tokens"] = length
        return profile

    def get_token_ids(self, text: str) -> list[int]:
        """Return the token ids of a text by the model's own tokenizer, unless `custom_get_token_ids` is given.

        Loads the model at the first call.
        """
        if self.custom_get_token_ids is not None:
            return self.custom_get_token_ids(text)
        return list(self.get_decoder().loaded.tokenizer(text, verbose=False)["input_ids"])

    def get_num_tokens_from_messages(
        self,
        messages: list[BaseMessage],
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool] | None = None,
    ) -> int:
        """Return the number of tokens that the model reads of a conversation, chat template and tools included.

        Args:
            messages: The conversation.
            tools: Tools on offer; see `bind_tools`.
        """
        from nad_agents.prompt import encode_prompt

        if not messages:
            # `trim_messages` asks for the tokens of nothing, for which many templates have no form
            return 0
        tokenizer = self.get_decoder().loaded.tokenizer
        output_spec = self.output_spec({"tools": openai_tools(tools or ())})
        prompt, template_tools = template_inputs(tokenizer, template_messages(messages), output_spec)
        options = output_spec.chat_template_kwargs
        ids = encode_prompt(
            tokenizer,
            prompt,
            tools=template_tools,
            chat_template_kwargs=options,
            parse_special_tokens=self.parse_special_tokens,
        )
        return len(ids)

    # --- generation ---

    def _start(
        self, messages: list[BaseMessage], stop: list[str] | None, kwargs: dict[str, Any], *, streaming: bool
    ) -> LangChainChat:
        """Check and submit a call; everything that can be wrong with it is found here."""
        arguments = {name: value for name, value in kwargs.items() if name not in _CORE_ARGUMENTS}
        arguments["tools"] = openai_tools(arguments.get("tools") or (), strict=arguments.pop("strict", None))
        if stop is not None:
            arguments["stop"] = stop
        prepared, settings = self.prepare_chat(template_messages(messages), arguments)
        try:
            pending = self.submit(prepared, settings, streaming=streaming)
        except PromptTooLongError as error:
            raise PromptOverflowError(str(error)) from error
        return LangChainChat(pending, settings, prepared)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        progress = ProgressReporter(run_manager)

        def attempt() -> AIMessage:
            call = self._start(messages, stop, kwargs, streaming=progress.wanted)
            if not progress.wanted:
                return call.message(call.pending.result())
            with closing(call.pending.events()) as events:
                for event in events:
                    if isinstance(event, Progress):
                        progress.report(event)
                    elif isinstance(event, Finished):
                        selection = event.selection
            return call.message(selection)

        message = self._retrying()(attempt)
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        progress = ProgressReporter(run_manager)

        async def attempt() -> AIMessage:
            call = await submit_in_thread(lambda: self._start(messages, stop, kwargs, streaming=progress.wanted))
            if not progress.wanted:
                return call.message(await call.pending.aresult())
            async with aclosing(call.pending.aevents()) as events:
                async for event in events:
                    if isinstance(event, Progress):
                        await progress.areport(event)
                    elif isinstance(event, Finished):
                        selection = event.selection
            return call.message(selection)

        message: AIMessage = await self._aretrying()(attempt)
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        progress = ProgressReporter(run_manager)
        call = self._start(messages, stop, kwargs, streaming=True)
        with closing(call.pending.events()) as events:
            for event in events:
                if isinstance(event, Progress):
                    progress.report(event)
                else:
                    yield from call.chunks(event)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        progress = ProgressReporter(run_manager)
        call = await submit_in_thread(lambda: self._start(messages, stop, kwargs, streaming=True))
        async with aclosing(call.pending.aevents()) as events:
            async for event in events:
                if isinstance(event, Progress):
                    await progress.areport(event)
                else:
                    for chunk in call.chunks(event):
                        yield chunk

    # --- tools and shapes ---

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: dict[str, Any] | str | bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Return the model with tools on offer.

        Args:
            tools: Functions, pydantic classes, LangChain tools, or tools in OpenAI's form.
            tool_choice: "auto" or None lets the model decide. "any", "required" or True makes every candidate call a
                tool, and a tool's name (or OpenAI's dict) makes it call that one, since the grammar allows nothing
                else. "none" or False keeps the tools out.
            **kwargs: Further arguments of each call. `parallel_tool_calls=True` allows several calls where one is
                forced; False keeps the first of several where the model is free to choose.

        Raises:
            ConfigurationError: An entry is no tool, or tool_choice names none of the tools.
        """
        converted = openai_tools(tools, strict=kwargs.get("strict"), require_description=True)
        choice = tool_choice_name(tool_choice, [tool["function"]["name"] for tool in converted])
        if choice is not None:
            kwargs["tool_choice"] = choice
        return self.bind(tools=converted, **kwargs)

    def with_structured_output(
        self,
        schema: dict[str, Any] | type,
        *,
        method: StructuredMethod = "json_schema",
        include_raw: bool = False,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, dict[str, Any] | BaseModel]:
        """Return a chain whose answers fit a schema; a grammar holds every candidate to it.

        The chain raises OutputParserException where a stop string cuts the object, at the end of a stream too; with
        `include_raw` the exception is the ``parsing_error``.

        Args:
            schema: A pydantic class (v1 or v2), a TypedDict, a JSON schema, or a tool in OpenAI's form.
            method: How the model is told the schema: "json_schema" in the system message, "function_calling" as a
                tool, "json_mode" not at all.
            include_raw: Whether the chain gives ``raw``, ``parsed`` and ``parsing_error`` instead of the object.
            strict: Passed on with the schema; every schema is enforced.
            **kwargs: Further arguments of each call.

        Raises:
            ConfigurationError: The schema is none, or the method is unknown.
        """
        return structured_output(self, schema, method=method, include_raw=include_raw, strict=strict, options=kwargs)

    # --- many prompts ---

    def batch(
        self,
        inputs: list[LanguageModelInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[AIMessage]:
        """Answer several prompts, which share one batch on the model; see `Runnable.batch`.

        Without `max_concurrency` all prompts are submitted at once; the decoder runs as many of them together as it
        has rows for.
        """
        config = _all_at_once(config, len(inputs))
        return super().batch(inputs, config, return_exceptions=return_exceptions, **kwargs)

    def batch_as_completed(self, inputs: Any, config: Any = None, **kwargs: Any) -> Any:
        """Answer several prompts as `batch` does, each answer as it is ready; see `Runnable.batch_as_completed`."""
        return super().batch_as_completed(inputs, _all_at_once(config, len(inputs)), **kwargs)


def _all_at_once(
    config: RunnableConfig | list[RunnableConfig] | None, n: int
) -> RunnableConfig | list[RunnableConfig] | None:
    """Allow one thread per prompt where the caller sets no limit: the threads wait for the engine and do no work."""
    if isinstance(config, list):
        return [{**c, "max_concurrency": c.get("max_concurrency") or max(n, 1)} for c in config]
    return {**(config or {}), "max_concurrency": (config or {}).get("max_concurrency") or max(n, 1)}
