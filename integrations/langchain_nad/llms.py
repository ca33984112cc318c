"""`NADLLM`: a LangChain completion model, for models without a chat template and prompts taken as they are."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing, closing, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, ClassVar

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun, Callbacks
from langchain_core.language_models.llms import BaseLLM
from langchain_core.outputs import Generation, GenerationChunk, LLMResult
from pydantic import model_validator

from langchain_nad.inherited_fields import LANGUAGE_MODEL_FIELDS
from langchain_nad.outputs import response_metadata, usage_metadata
from nad_agents import __version__
from nad_agents.chat.cache_key import object_name
from nad_agents.chat.local_model import LocalModel
from nad_agents.chat.params import Settings
from nad_agents.chat.prepare import PreparedChat
from nad_agents.events import DecodingEvent, Finished, TextDelta
from nad_agents.pending import PendingRequest, submit_in_thread
from nad_agents.types import Selection

__all__ = ["NADLLM"]

_TRACING_ARGUMENTS = {"tags", "metadata", "run_name", "run_id"}
"""Arguments of `generate` that change no answer."""

_CALL_ARGUMENTS: ContextVar[str | None] = ContextVar("nad_llm_call_arguments", default=None)
"""The arguments of the current call as JSON, for the key of LangChain's cache."""


@contextmanager
def _in_cache_key(arguments: Mapping[str, Any]) -> Iterator[None]:
    relevant = {name: value for name, value in arguments.items() if name not in _TRACING_ARGUMENTS}
    token = _CALL_ARGUMENTS.set(json.dumps(relevant, sort_keys=True, default=object_name) if relevant else None)
    try:
        yield
    finally:
        _CALL_ARGUMENTS.reset(token)


class NADLLM(LocalModel, BaseLLM):
    """A local Hugging Face model that continues text with the best of N candidates.

    The prompt reaches the model as it is, without a chat template. Parameters of sampling and selection may also be
    given per call. The evidence for the choice is in ``generation_info``. Errors are those of `nad_agents.exceptions`.

    Raises:
        ConfigurationError: A parameter is unknown, has a value that cannot work, or does not go with another.
    """

    base_field_descriptions: ClassVar[Mapping[str, str]] = LANGUAGE_MODEL_FIELDS
    hidden_in_repr: ClassVar[frozenset[str]] = frozenset({"metadata"})

    @model_validator(mode="after")
    def _set_nad_llm_version(self) -> NADLLM:
        self._add_version("nad-agents", __version__)
        return self

    @property
    def _llm_type(self) -> str:
        return "nad"

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """Return True: `langchain_core.load.dumpd` writes models without verifier, decoder or callable selector."""
        return True

    @property
    def _identifying_params(self) -> dict[str, Any]:
        # langchain-core's cache for completions reads these parameters and no argument of the call
        arguments = _CALL_ARGUMENTS.get()
        return self.identity() | ({} if arguments is None else {"arguments": arguments})

    def generate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        callbacks: Callbacks | list[Callbacks] | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        """Continue several texts, which share one batch on the model; see `BaseLLM.generate`."""
        with _in_cache_key(kwargs):
            return super().generate(prompts, stop, callbacks, **kwargs)

    async def agenerate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        callbacks: Callbacks | list[Callbacks] | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        """Continue several texts as `generate` does without blocking the event loop."""
        with _in_cache_key(kwargs):
            return await super().agenerate(prompts, stop, callbacks, **kwargs)

    def get_token_ids(self, text: str) -> list[int]:
        """Return the token ids of a text by the model's own tokenizer, unless `custom_get_token_ids` is given.

        Loads the model at the first call.
        """
        if self.custom_get_token_ids is not None:
            return self.custom_get_token_ids(text)
        return list(self.get_decoder().loaded.tokenizer(text)["input_ids"])

    def _start(
        self, prompts: list[str], stop: list[str] | None, kwargs: dict[str, Any], *, streaming: bool
    ) -> _SubmittedTexts:
        """Check and submit a call; everything that can be wrong with it is found here."""
        overrides = dict(kwargs) if stop is None else {**kwargs, "stop": stop}
        overrides.pop("stream", None)
        settings = self.settings(overrides)
        submitted = _SubmittedTexts([], settings)
        try:
            for prompt in prompts:
                prepared = PreparedChat(prompt, raw=True, verifier=settings.verifier)
                submitted.pending.append(self.submit(prepared, settings, streaming=streaming))
        except BaseException:
            submitted.cancel()
            raise
        return submitted

    def _generate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002 - `_stream` tells of tokens
        **kwargs: Any,
    ) -> LLMResult:
        def attempt() -> LLMResult:
            submitted = self._start(prompts, stop, kwargs, streaming=False)
            try:
                selections = [pending.result() for pending in submitted.pending]
            finally:
                submitted.cancel()
            return LLMResult(generations=[[_generation(selection, submitted.settings)] for selection in selections])

        return self._retrying()(attempt)

    async def _agenerate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,  # noqa: ARG002 - as above
        **kwargs: Any,
    ) -> LLMResult:
        async def attempt() -> LLMResult:
            submitted = await submit_in_thread(lambda: self._start(prompts, stop, kwargs, streaming=False))
            try:
                selections = [await pending.aresult() for pending in submitted.pending]
            finally:
                submitted.cancel()
            return LLMResult(generations=[[_generation(selection, submitted.settings)] for selection in selections])

        result: LLMResult = await self._aretrying()(attempt)
        return result

    def _stream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[GenerationChunk]:
        submitted = self._start([prompt], stop, kwargs, streaming=True)
        with closing(submitted.pending[0].events()) as events:
            for event in events:
                chunk = _chunk(event, submitted.settings)
                if chunk is not None:
                    if run_manager is not None:
                        run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                    yield chunk

    async def _astream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[GenerationChunk]:
        submitted = await submit_in_thread(lambda: self._start([prompt], stop, kwargs, streaming=True))
        async with aclosing(submitted.pending[0].aevents()) as events:
            async for event in events:
                chunk = _chunk(event, submitted.settings)
                if chunk is not None:
                    if run_manager is not None:
                        await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                    yield chunk


@dataclass(frozen=True)
class _SubmittedTexts:
    """One submitted call: a request for each prompt, and their settings."""

    pending: list[PendingRequest]
    settings: Settings

    def cancel(self) -> None:
        """Stop generating within a chunk; without effect on finished requests."""
        for pending in self.pending:
            pending.cancel()


def _generation_info(selection: Selection, settings: Settings) -> dict[str, Any]:
    metadata = response_metadata(
        selection, model=settings.model, include_candidates=settings.include_candidates, finish_reason=None
    )
    return {**metadata, "usage_metadata": usage_metadata(selection)}


def _generation(selection: Selection, settings: Settings) -> Generation:
    return Generation(text=selection.text, generation_info=_generation_info(selection, settings))


def _chunk(event: DecodingEvent, settings: Settings) -> GenerationChunk | None:
    """Return the chunk that a streaming caller gets for an event; the evidence comes once, at the end."""
    if isinstance(event, TextDelta):
        return GenerationChunk(text=event.text)
    if isinstance(event, Finished):
        return GenerationChunk(text="", generation_info=_generation_info(event.selection, settings))
    return None
