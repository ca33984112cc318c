"""The eight ways in which LlamaIndex asks a model: chat and completion, whole and streamed, blocking and not."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, closing
from typing import Any

from llama_index.core.base.llms.generic_utils import chat_response_to_completion_response
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
)
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.llms.nad.messages import template_messages
from llama_index.llms.nad.outputs import ChatCall

from nad_agents.chat.local_model import ChatFields
from nad_agents.chat.prepare import PreparedChat, prepare
from nad_agents.exceptions import ConfigurationError
from nad_agents.pending import submit_in_thread

__all__ = ["AnsweringLLM"]

Asked = Sequence[ChatMessage] | str
"""A conversation, or text that the model goes on with as it is."""


class AnsweringLLM(ChatFields, FunctionCallingLLM):
    """A model that answers; see `NADLLM`."""

    is_chat_model: bool = True
    """False for a base model: prompts are then continued as they are, and there are no tools."""

    def _start(self, asked: Asked, kwargs: dict[str, Any], *, streaming: bool) -> ChatCall:
        """Check and submit a call; everything that can be wrong with it is found here."""
        overrides = dict(kwargs)
        overrides["tools"] = [_openai_tool(tool) for tool in overrides.get("tools") or ()]
        output_spec = self.take_output_spec(overrides)
        settings = self.settings(overrides)
        decoder = self.get_decoder(settings.model)
        if isinstance(asked, str):
            if output_spec.tools or output_spec.constrained or kwargs.get("chat_template_kwargs"):
                asked_for = "tools, response_format and chat_template_kwargs"
                msg = f"{asked_for} go with a chat, not with text that is continued as it is; use chat()"
                raise ConfigurationError(msg)
            prepared = PreparedChat(asked, output_spec, raw=True, verifier=self.verifier or decoder.verifier)
        else:
            prepared = prepare(
                decoder,
                template_messages(asked),
                output_spec,
                max_new_tokens=settings.sampling.max_new_tokens,
                verifier=self.verifier or decoder.verifier,
            )
        pending = self.submit(decoder, prepared, settings, streaming=streaming)
        return ChatCall(pending, settings, prepared.parser, parallel=output_spec.parallel is not False)

    def _start_text(self, prompt: str, kwargs: dict[str, Any], *, formatted: bool, streaming: bool) -> ChatCall:
        """Start on text: one user message for a chat model, unless the caller has formatted it already."""
        if not formatted:
            model = kwargs.get("model", kwargs.get("model_name"))
            if self.is_chat_model and self.get_decoder(model).loaded.tokenizer.chat_template is not None:
                return self._start([ChatMessage(content=prompt)], kwargs, streaming=streaming)
            assert self.completion_to_prompt is not None  # LlamaIndex puts its default there
            prompt = self.completion_to_prompt(prompt)
        return self._start(prompt, kwargs, streaming=streaming)

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer a conversation.

        Args:
            messages: what was said.
            **kwargs: parameters of sampling and selection for this call; `tools` and `tool_choice`; `response_format`
                as OpenAI has it, or ``{"type": "regex", "pattern": ...}``, ``{"type": "choice", "choices": [...]}``.
        """
        return self._retrying()(lambda: _whole(self._start(messages, kwargs, streaming=False)))

    @llm_chat_callback()
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """`chat` without blocking the event loop; cancelling the task stops the generation within a chunk."""

        async def attempt() -> ChatResponse:
            return await _awhole(await submit_in_thread(lambda: self._start(messages, kwargs, streaming=False)))

        found: ChatResponse = await self._aretrying()(attempt)
        return found

    @llm_chat_callback()
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """`chat` piece by piece; with pruning="first_chunk" text comes from the first chunk on."""

        def generate() -> ChatResponseGen:
            yield from _pieces(self._start(messages, kwargs, streaming=True))

        return generate()

    @llm_chat_callback()
    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        """`stream_chat` without blocking the event loop."""

        async def generate() -> ChatResponseAsyncGen:
            async with aclosing(
                _apieces(await submit_in_thread(lambda: self._start(messages, kwargs, streaming=True)))
            ) as pieces:
                async for piece in pieces:
                    yield piece

        return generate()

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Answer a text.

        Args:
            prompt: the text; one user message for a chat model.
            formatted: go on with the text as it is.
            **kwargs: see `chat`.
        """
        return self._retrying()(
            lambda: _as_completion(_whole(self._start_text(prompt, kwargs, formatted=formatted, streaming=False)))
        )

    @llm_completion_callback()
    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """`complete` without blocking the event loop."""

        async def attempt() -> CompletionResponse:
            call = await submit_in_thread(
                lambda: self._start_text(prompt, kwargs, formatted=formatted, streaming=False)
            )
            return _as_completion(await _awhole(call))

        found: CompletionResponse = await self._aretrying()(attempt)
        return found

    @llm_completion_callback()
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        """`complete` piece by piece."""

        def generate() -> CompletionResponseGen:
            for piece in _pieces(self._start_text(prompt, kwargs, formatted=formatted, streaming=True)):
                yield _as_completion(piece)

        return generate()

    @llm_completion_callback()
    async def astream_complete(
        self,
        prompt: str,
        formatted: bool = False,
        **kwargs: Any,
    ) -> CompletionResponseAsyncGen:
        """`stream_complete` without blocking the event loop."""

        async def generate() -> CompletionResponseAsyncGen:
            call = await submit_in_thread(lambda: self._start_text(prompt, kwargs, formatted=formatted, streaming=True))
            async with aclosing(_apieces(call)) as pieces:
                async for piece in pieces:
                    yield _as_completion(piece)

        return generate()


def _openai_tool(tool: Any) -> Any:
    """A tool in OpenAI's form; what is none of LlamaIndex's stays as it is."""
    metadata = getattr(tool, "metadata", None)
    return tool if metadata is None else metadata.to_openai_tool(skip_length_check=True)


def _whole(call: ChatCall) -> ChatResponse:
    return call.response(call.pending.result())


async def _awhole(call: ChatCall) -> ChatResponse:
    return call.response(await call.pending.aresult())


def _pieces(call: ChatCall) -> Iterator[ChatResponse]:
    with closing(call.pending.events()) as events:
        for event in events:
            yield from call.pieces(event)


async def _apieces(call: ChatCall) -> AsyncGenerator[ChatResponse]:
    async with aclosing(call.pending.aevents()) as events:
        async for event in events:
            for piece in call.pieces(event):
                yield piece


def _as_completion(response: ChatResponse) -> CompletionResponse:
    found = chat_response_to_completion_response(response)
    found.delta = response.delta
    return found
