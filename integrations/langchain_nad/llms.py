"""`NADLLM`: a LangChain completion model, for models without a chat template and prompts taken as they are."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing, closing, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun, Callbacks
from langchain_core.language_models.llms import BaseLLM
from langchain_core.outputs import Generation, GenerationChunk, LLMResult
from pydantic import model_validator

from langchain_nad.outputs import response_metadata, usage_metadata
from nad_agents import __version__
from nad_agents.chat.local_model import LocalModel
from nad_agents.chat.params import Settings, object_name
from nad_agents.chat.prepare import PreparedChat
from nad_agents.events import DecodingEvent, Finished, TextDelta
from nad_agents.pending import PendingRequest, submit_in_thread
from nad_agents.types import Selection

__all__ = ["NADLLM"]

_OF_LANGCHAIN = {"tags", "metadata", "run_name", "run_id"}
"""Arguments of `generate` that change no answer."""

_ARGUMENTS: ContextVar[str | None] = ContextVar("nad_llm_arguments", default=None)
"""Arguments of the call that is under way."""


@contextmanager
def _called_with(arguments: Mapping[str, Any]) -> Iterator[None]:
    changing = {name: value for name, value in arguments.items() if name not in _OF_LANGCHAIN}
    token = _ARGUMENTS.set(json.dumps(changing, sort_keys=True, default=object_name) if changing else None)
    try:
        yield
    finally:
        _ARGUMENTS.reset(token)


class NADLLM(LocalModel, BaseLLM):
    """A local Hugging Face model that continues text with the best of N candidates.

    The prompt reaches the model as it is, without a chat template. Parameters and errors are those of `NADChatModel`;
    the evidence is in ``generation_info``.
    """

    @model_validator(mode="after")
    def _set_nad_llm_version(self) -> NADLLM:
        self._add_version("nad-agents", __version__)
        return self

    @model_validator(mode="after")
    def _check_nad_llm_settings(self) -> NADLLM:
        self.check_settings()
        return self

    @property
    def _llm_type(self) -> str:
        return "nad"

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """Whether `langchain_core.load.dumpd` can write it; a verifier, a decoder or a callable selector cannot be."""
        return True

    @property
    def _identifying_params(self) -> dict[str, Any]:
        # langchain-core's cache for completions looks at these parameters and at no argument of the call
        arguments = _ARGUMENTS.get()
        return self.identity() | ({} if arguments is None else {"arguments": arguments})

    def generate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        callbacks: Callbacks | list[Callbacks] | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        """Continue several texts, which share one batch on the model."""
        with _called_with(kwargs):
            return super().generate(prompts, stop, callbacks, **kwargs)

    async def agenerate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        callbacks: Callbacks | list[Callbacks] | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        """`generate` without blocking the event loop."""
        with _called_with(kwargs):
            return await super().agenerate(prompts, stop, callbacks, **kwargs)

    def get_token_ids(self, text: str) -> list[int]:
        """Tokens of a text by the model's own tokenizer; loads the model at the first call."""
        return list(self.get_decoder().loaded.tokenizer(text)["input_ids"])

    def _start(
        self, prompts: list[str], stop: list[str] | None, kwargs: dict[str, Any], *, streaming: bool
    ) -> tuple[list[PendingRequest], Settings]:
        overrides = dict(kwargs) if stop is None else {**kwargs, "stop": stop}
        overrides.pop("stream", None)
        settings = self.settings(overrides)
        decoder = self.get_decoder(settings.model)
        runs: list[PendingRequest] = []
        try:
            runs.extend(
                self.submit(
                    decoder,
                    PreparedChat(prompt, raw=True, verifier=self.verifier or decoder.verifier),
                    settings,
                    streaming=streaming,
                )
                for prompt in prompts
            )
        except BaseException:
            for run in runs:
                run.cancel()
            raise
        return runs, settings

    def _generate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002 - tokens are told by `_stream`
        **kwargs: Any,
    ) -> LLMResult:
        def attempt() -> LLMResult:
            runs, settings = self._start(prompts, stop, kwargs, streaming=False)
            try:
                return LLMResult(generations=[[_generation(run.result(), settings)] for run in runs])
            finally:
                for run in runs:
                    run.cancel()

        return self._retrying()(attempt)

    async def _agenerate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,  # noqa: ARG002 - as above
        **kwargs: Any,
    ) -> LLMResult:
        async def attempt() -> LLMResult:
            runs = await submit_in_thread(lambda: _Runs(*self._start(prompts, stop, kwargs, streaming=False)))
            try:
                found = [await run.aresult() for run in runs.runs]
            finally:
                runs.cancel()
            return LLMResult(generations=[[_generation(selection, runs.settings)] for selection in found])

        result: LLMResult = await self._aretrying()(attempt)
        return result

    def _stream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[GenerationChunk]:
        (run,), settings = self._start([prompt], stop, kwargs, streaming=True)
        with closing(run.events()) as events:
            for event in events:
                chunk = _chunk(event, settings)
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
        runs = await submit_in_thread(lambda: _Runs(*self._start([prompt], stop, kwargs, streaming=True)))
        async with aclosing(runs.runs[0].aevents()) as events:
            async for event in events:
                chunk = _chunk(event, runs.settings)
                if chunk is not None:
                    if run_manager is not None:
                        await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                    yield chunk


@dataclass(frozen=True)
class _Runs:
    runs: list[PendingRequest]
    settings: Settings

    def cancel(self) -> None:
        for run in self.runs:
            run.cancel()


def _info(selection: Selection, settings: Settings) -> dict[str, Any]:
    metadata = response_metadata(
        selection, model=settings.model, include_candidates=settings.include_candidates, finish_reason=None
    )
    return {**metadata, "usage_metadata": usage_metadata(selection)}


def _generation(selection: Selection, settings: Settings) -> Generation:
    return Generation(text=selection.text, generation_info=_info(selection, settings))


def _chunk(event: DecodingEvent, settings: Settings) -> GenerationChunk | None:
    """What a streaming caller gets of an event; the evidence comes once, at the end."""
    if isinstance(event, TextDelta):
        return GenerationChunk(text=event.text)
    if isinstance(event, Finished):
        return GenerationChunk(text="", generation_info=_info(event.selection, settings))
    return None
