"""`NADLLM`: a LlamaIndex model whose every answer is chosen among N candidates by neuron agreement."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, ClassVar

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
    LLMMetadata,
    MessageRole,
)
from llama_index.core.constants import DEFAULT_CONTEXT_WINDOW
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.core.llms.llm import ToolSelection
from llama_index.llms.nad.messages import openai_tool, template_messages
from llama_index.llms.nad.outputs import LlamaIndexChat, as_completion, tool_selections
from llama_index.llms.nad.structured_llm import StructuredLLM
from pydantic import Field, PrivateAttr

from nad_agents.chat.local_chat_model import LocalChatModel
from nad_agents.chat.output_spec import OUTPUT_ARGUMENTS
from nad_agents.chat.params import Settings
from nad_agents.chat.prepare import PreparedChat
from nad_agents.exceptions import ConfigurationError
from nad_agents.pending import submit_in_thread

if TYPE_CHECKING:
    from llama_index.core.tools.types import BaseTool

__all__ = ["NADLLM"]

Prompt = Sequence[ChatMessage] | str
"""A conversation, or text that the model continues as it is."""


class NADLLM(LocalChatModel, StructuredLLM):
    """A local Hugging Face model that answers with the best of N candidates.

    The candidates are sampled in one batch and ranked by how much their activated neurons agree
    (arXiv 2510.26277). With a verifier the ranking is walked down until a candidate passes. Parameters of sampling and
    selection may also be given per call, as in ``llm.chat(messages, n=4, seed=1)``.

    Example:
        .. code-block:: python

            from llama_index.llms.nad import NADLLM

            llm = NADLLM(model="Qwen/Qwen2.5-Coder-1.5B-Instruct", n=16)
            answer = llm.complete("Write a Python function that reverses a string.")
            answer.raw["nad"]["ranking"]

    Token counts are in ``raw["usage"]``, where LlamaIndex's token counter finds them, and the evidence for the choice
    is in ``raw["nad"]``; in a stream, the last response has both. Weights are loaded at the first call and shared by
    every instance of the process with the same model, device and dtype; their calls share batches. Errors are those
    of `nad_agents.exceptions`. Two models are equal when their parameters are.

    Raises:
        ConfigurationError: A parameter is unknown, has a value that cannot work, or does not go with another.
    """

    base_field_descriptions: ClassVar[Mapping[str, str]] = {
        "callback_manager": "Callbacks that are told of every call.",
        "pydantic_program_mode": "How objects of a class are asked for; the default holds the answer to the schema by "
        "a grammar.",
    }
    hidden_in_repr: ClassVar[frozenset[str]] = frozenset(
        {"callback_manager", "messages_to_prompt", "completion_to_prompt"}
    )

    is_chat_model: bool = Field(
        default=True, description="False for a base model: prompts are continued as they are, and there are no tools."
    )
    context_window: int | None = Field(
        default=None, ge=1, description="Tokens of prompt and answer together; None takes the model's own."
    )

    _configured_window: int | None = PrivateAttr(default=None)

    # --- what LlamaIndex reads of the model ---

    @classmethod
    def class_name(cls) -> str:
        """Return the name under which LlamaIndex serializes the class."""
        return "NADLLM"

    @property
    def metadata(self) -> LLMMetadata:
        """Name, context window and abilities of the model.

        Where `context_window` is not given and the model is not loaded, its config is read once. That may take a
        while, so within an event loop LlamaIndex's `DEFAULT_CONTEXT_WINDOW` is given instead.
        """
        if self._known_window() is None and not _in_event_loop():
            from nad_agents.models import read_context_length

            self._configured_window = read_context_length(self.model_name) or DEFAULT_CONTEXT_WINDOW
        return self._known_metadata()

    def to_payload(self) -> dict[str, Any]:
        """Describe the model for LlamaIndex's events, without reading files, since event loops call this."""
        return {"class_name": self.class_name(), **self._known_metadata().model_dump()}

    def _known_metadata(self) -> LLMMetadata:
        return LLMMetadata(
            context_window=self._known_window() or DEFAULT_CONTEXT_WINDOW,
            num_output=self.max_tokens,
            model_name=self.effective_model_name,
            is_chat_model=self.is_chat_model,
            is_function_calling_model=self.is_chat_model,
        )

    def _known_window(self) -> int | None:
        decoder = self.decoder or self._loaded.decoder
        loaded = None if decoder is None else decoder.engine.context_length
        return self.context_window or loaded or self._configured_window

    def __getstate__(self) -> dict[str, Any]:
        """Return the parameters only: another process loads the model itself.

        Raises:
            ConfigurationError: The model was given as a decoder, which stays in its process.
        """
        if self.decoder is not None:
            msg = "a NADLLM with decoder= cannot be sent to another process; make it with model= instead"
            raise ConfigurationError(msg)
        given = {name: getattr(self, name) for name in self.model_fields_set if name != "callback_manager"}
        return {
            "__dict__": given,
            "__pydantic_fields_set__": set(given),
            "__pydantic_extra__": None,
            "__pydantic_private__": None,
        }

    # --- chat and completion ---

    def _start(self, prompt: Prompt, kwargs: dict[str, Any], *, streaming: bool) -> LlamaIndexChat:
        """Check and submit a call; everything that can be wrong with it is found here."""
        arguments = {**kwargs, "tools": [openai_tool(tool) for tool in kwargs.get("tools") or ()]}
        if isinstance(prompt, str):
            prepared, settings = self._prepare_text(prompt, arguments)
        else:
            prepared, settings = self.prepare_chat(template_messages(prompt), arguments)
        return LlamaIndexChat(self.submit(prepared, settings, streaming=streaming), settings, prepared)

    def _prepare_text(self, text: str, arguments: dict[str, Any]) -> tuple[PreparedChat, Settings]:
        output_spec = self.output_spec(arguments)
        settings = self.settings({name: value for name, value in arguments.items() if name not in OUTPUT_ARGUMENTS})
        if output_spec.tools or output_spec.constrained or arguments.get("chat_template_kwargs"):
            msg = (
                "tools, response_format and chat_template_kwargs go with a chat, not with text that is continued as it "
                "is; use chat()"
            )
            raise ConfigurationError(msg)
        return PreparedChat(text, output_spec, raw=True, verifier=settings.verifier), settings

    def _start_completion(
        self, prompt: str, kwargs: dict[str, Any], *, formatted: bool, streaming: bool
    ) -> LlamaIndexChat:
        """Start on text, which is one user message for a chat model unless the caller has formatted it already."""
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
            messages: The conversation.
            **kwargs: Parameters of sampling and selection for this call; `tools` and `tool_choice`; `response_format`
                as OpenAI has it, or ``{"type": "regex", "pattern": ...}``, ``{"type": "choice", "choices": [...]}``.

        Raises:
            NADError: A parameter or the prompt is wrong, or the model failed; see `nad_agents.exceptions`.
        """
        return self._retrying()(lambda: self._start(messages, kwargs, streaming=False).result())

    @llm_chat_callback()
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer as `chat` does without blocking the event loop; cancelling the task stops the generation."""

        async def attempt() -> ChatResponse:
            call = await submit_in_thread(lambda: self._start(messages, kwargs, streaming=False))
            return await call.aresult()

        response: ChatResponse = await self._aretrying()(attempt)
        return response

    @llm_chat_callback()
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """Stream what `chat` answers; with pruning="first_chunk" text comes from the first chunk on."""

        def generate() -> ChatResponseGen:
            yield from self._start(messages, kwargs, streaming=True).responses()

        return generate()

    @llm_chat_callback()
    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        """Stream as `stream_chat` does without blocking the event loop."""

        async def generate() -> ChatResponseAsyncGen:
            call = await submit_in_thread(lambda: self._start(messages, kwargs, streaming=True))
            async with aclosing(call.aresponses()) as responses:
                async for response in responses:
                    yield response

        return generate()

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Answer a text.

        Args:
            prompt: The text, which is one user message for a chat model.
            formatted: Whether the text is continued as it is.
            **kwargs: See `chat`.

        Raises:
            NADError: See `chat`.
        """

        def attempt() -> CompletionResponse:
            call = self._start_completion(prompt, kwargs, formatted=formatted, streaming=False)
            return as_completion(call.result())

        return self._retrying()(attempt)

    @llm_completion_callback()
    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Answer as `complete` does without blocking the event loop; cancelling the task stops the generation."""

        async def attempt() -> CompletionResponse:
            call = await submit_in_thread(
                lambda: self._start_completion(prompt, kwargs, formatted=formatted, streaming=False)
            )
            return as_completion(await call.aresult())

        response: CompletionResponse = await self._aretrying()(attempt)
        return response

    @llm_completion_callback()
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        """Stream what `complete` answers."""

        def generate() -> CompletionResponseGen:
            call = self._start_completion(prompt, kwargs, formatted=formatted, streaming=True)
            for response in call.responses():
                yield as_completion(response)

        return generate()

    @llm_completion_callback()
    async def astream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseAsyncGen:
        """Stream as `stream_complete` does without blocking the event loop."""

        async def generate() -> CompletionResponseAsyncGen:
            call = await submit_in_thread(
                lambda: self._start_completion(prompt, kwargs, formatted=formatted, streaming=True)
            )
            async with aclosing(call.aresponses()) as responses:
                async for response in responses:
                    yield as_completion(response)

        return generate()

    # --- tools ---

    def _prepare_chat_with_tools(
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,  # noqa: ARG002 - LlamaIndex's signature
        allow_parallel_tool_calls: bool = False,
        tool_required: bool = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Return the arguments of `chat` for a call with tools; the grammar allows nothing but a required call."""
        user = ChatMessage(role=MessageRole.USER, content=user_msg) if isinstance(user_msg, str) else user_msg
        choice = kwargs.pop("tool_choice", None) or ("required" if tool_required else None)
        return {
            "messages": [*(chat_history or ()), *([user] if user is not None else ())],
            "tools": list(tools),
            "tool_choice": choice if tools else None,
            "parallel_tool_calls": allow_parallel_tool_calls,
            **kwargs,
        }

    def get_tool_calls_from_response(
        self,
        response: ChatResponse,
        error_on_no_tool_call: bool = True,
        **kwargs: Any,  # noqa: ARG002 - as above
    ) -> list[ToolSelection]:
        """Return the tool calls of an answer.

        Args:
            response: The answer.
            error_on_no_tool_call: Whether an answer without calls is an error.
            **kwargs: Ignored.

        Raises:
            ValueError: The answer has no calls, which LlamaIndex expects as this exception.
        """
        selections = tool_selections(response)
        if not selections and error_on_no_tool_call:
            msg = f"the model called no tool, but answered {response.message.content!r}; pass tool_required=True"
            raise ValueError(msg)
        return selections

    @property
    def held_by_grammar(self) -> bool:
        """Whether a grammar holds objects of a class to its schema: for chat models, unless a program mode is set."""
        return self.is_chat_model and super().held_by_grammar


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
