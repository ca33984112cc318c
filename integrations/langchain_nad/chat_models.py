"""`NADChatModel`: a LangChain chat model whose every answer is chosen among N candidates by neuron agreement."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, closing
from dataclasses import dataclass
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import LangSmithParams, LanguageModelInput, ModelProfile
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool
from pydantic import model_validator

from langchain_nad.answers import PROVIDER, response_metadata, usage_metadata
from langchain_nad.fields import Settings
from langchain_nad.local_model import LocalModel
from langchain_nad.messages import fit_template, template_messages
from langchain_nad.progress import ProgressReporter
from langchain_nad.runs import Run, start_run
from nad_agents import __version__
from nad_agents.events import DecodingEvent, Finished, Progress, TextDelta
from nad_agents.types import Selection

__all__ = ["NADChatModel"]

_CORE_ARGUMENTS = {"stream", "ls_structured_output_format", "structured_output_format"}
"""What langchain-core itself puts among the arguments of a call."""


@dataclass(frozen=True)
class _Call:
    """A submitted call, and what turns its selection into a message."""

    run: Run
    settings: Settings

    def cancel(self) -> None:
        self.run.cancel()

    def message(self, selection: Selection) -> AIMessage:
        return AIMessage(
            content=selection.text,
            response_metadata=self.metadata(selection),
            usage_metadata=usage_metadata(selection),
        )

    def chunks(self, event: DecodingEvent) -> Iterator[ChatGenerationChunk]:
        """What a streaming caller gets of an event; usage and evidence come once, with the last chunk."""
        if isinstance(event, TextDelta):
            yield ChatGenerationChunk(message=AIMessageChunk(content=event.text))
        elif isinstance(event, Finished):
            last = AIMessageChunk(
                content="",
                response_metadata=self.metadata(event.selection),
                usage_metadata=usage_metadata(event.selection),
                chunk_position="last",
            )
            yield ChatGenerationChunk(message=last)

    def metadata(self, selection: Selection) -> dict[str, Any]:
        settings = self.settings
        return response_metadata(selection, model=settings.model, include_candidates=settings.include_candidates)


class NADChatModel(LocalModel, BaseChatModel):
    """A local Hugging Face model that answers with the best of N candidates.

    The candidates are sampled in one batch and ranked by how much their activated neurons agree
    (arXiv 2510.26277). With a verifier the ranking is walked down until a candidate passes. Every parameter is
    described in `DecodingFields`; those of sampling and selection may also be given per call.

    Example:
        .. code-block:: python

            from langchain_nad import NADChatModel

            chat = NADChatModel(model="Qwen/Qwen2.5-Coder-1.5B-Instruct", n=16, selector="knn")
            answer = chat.invoke("Write a Python function that reverses a string.")
            answer.response_metadata["nad"]["ranking"]

    Weights are loaded at the first call and shared by every instance of the process with the same model, device and
    dtype; their calls share batches. Errors are those of `nad_agents.exceptions`, and GenerationTimeoutError.

    Raises:
        ConfigurationError: a parameter is unknown, has a value that cannot work, or does not go with another.
    """

    streaming: bool = False
    """Whether `invoke` goes through `stream`, for callbacks that want tokens."""

    @model_validator(mode="after")
    def _set_nad_version(self) -> NADChatModel:
        self._add_version("nad-agents", __version__)
        return self

    @model_validator(mode="after")
    def _check_nad_settings(self) -> NADChatModel:
        self.check_settings()
        return self

    # --- what LangChain asks about the model ---

    @property
    def _llm_type(self) -> str:
        return "nad-chat"

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """Whether `langchain_core.load.dumpd` can write it; a verifier, a decoder or a callable selector cannot be."""
        return True

    @property
    def lc_attributes(self) -> dict[str, Any]:
        """Configs as plain data, which the constructor takes as well."""
        configs = {"nad_config": self.nad_config, "verification": self.verification}
        return {name: config.model_dump(mode="json") for name, config in configs.items() if config is not None}

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return self.identity()

    def _get_llm_string(self, stop: list[str] | None = None, **kwargs: Any) -> str:
        """Key of LangChain's cache: the model's identity and the arguments of the call."""
        return json.dumps([self._identifying_params, stop, kwargs], sort_keys=True, default=repr)

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop or self.stop or None, **kwargs)
        params["ls_provider"] = PROVIDER
        params["ls_model_name"] = str(kwargs.get("model") or self._identifying_params["model_name"])
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
            tool_calling=False,
            structured_output=False,
        )
        if self.decoder is not None and self.decoder.engine.context_length:
            profile["max_input_tokens"] = self.decoder.engine.context_length
        return profile

    def get_token_ids(self, text: str) -> list[int]:
        """Tokens of a text by the model's own tokenizer; loads the model at the first call."""
        return list(self.get_decoder().loaded.tokenizer(text)["input_ids"])

    def get_num_tokens_from_messages(
        self,
        messages: list[BaseMessage],
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool] | None = None,
    ) -> int:
        """Tokens of a conversation as the model sees it, chat template included."""
        from nad_agents.prompts import encode_prompt

        tokenizer = self.get_decoder().loaded.tokenizer
        return len(encode_prompt(tokenizer, fit_template(tokenizer, template_messages(messages))))

    # --- answering ---

    def _start(
        self, messages: list[BaseMessage], stop: list[str] | None, kwargs: dict[str, Any], *, streaming: bool
    ) -> _Call:
        """Check and submit a call; everything that can be wrong with it is found here."""
        overrides = {name: value for name, value in kwargs.items() if name not in _CORE_ARGUMENTS}
        if stop is not None:
            overrides["stop"] = stop
        settings = self.settings(overrides)
        conversation = template_messages(messages)
        decoder = self.get_decoder(settings.model)
        prompt = fit_template(decoder.loaded.tokenizer, conversation)
        return _Call(self.submit(decoder, prompt, settings, streaming=streaming), settings)

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
                return call.message(call.run.result())
            with closing(call.run.events()) as events:
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
            call = await start_run(lambda: self._start(messages, stop, kwargs, streaming=progress.wanted))
            if not progress.wanted:
                return call.message(await call.run.aresult())
            async with aclosing(call.run.aevents()) as events:
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
        with closing(call.run.events()) as events:
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
        call = await start_run(lambda: self._start(messages, stop, kwargs, streaming=True))
        async with aclosing(call.run.aevents()) as events:
            async for event in events:
                if isinstance(event, Progress):
                    await progress.areport(event)
                else:
                    for chunk in call.chunks(event):
                        yield chunk

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

        Without `max_concurrency` all of them are submitted at once, and as many run together as the decoder has rows
        for.
        """
        together = _all_at_once(config, len(inputs))
        return super().batch(inputs, together, return_exceptions=return_exceptions, **kwargs)


def _all_at_once(
    config: RunnableConfig | list[RunnableConfig] | None, n: int
) -> RunnableConfig | list[RunnableConfig] | None:
    """Threads wait for the engine without working, so there may be one per prompt."""
    if isinstance(config, list):
        return [{**c, "max_concurrency": c.get("max_concurrency") or max(n, 1)} for c in config]
    return {**(config or {}), "max_concurrency": (config or {}).get("max_concurrency") or max(n, 1)}
