"""`NADLLM`: a LlamaIndex model whose every answer is chosen among N candidates by neuron agreement."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, LLMMetadata, MessageRole, ToolCallBlock
from llama_index.core.constants import DEFAULT_CONTEXT_WINDOW
from llama_index.core.llms.llm import ToolSelection
from llama_index.llms.nad.prediction import PredictingLLM
from pydantic import Field, PrivateAttr, model_validator

from nad_agents.exceptions import ConfigurationError

if TYPE_CHECKING:
    from llama_index.core.tools.types import BaseTool

__all__ = ["NADLLM"]


class NADLLM(PredictingLLM):
    """A local Hugging Face model that answers with the best of N candidates.

    The candidates are sampled in one batch and ranked by how much their activated neurons agree
    (arXiv 2510.26277). With a verifier the ranking is walked down until a candidate passes. Every parameter is
    described in `nad_agents.chat.params.DecodingFields`; those of sampling and selection may also be given per call.

    Example:
        .. code-block:: python

            from llama_index.llms.nad import NADLLM

            llm = NADLLM(model="Qwen/Qwen2.5-Coder-1.5B-Instruct", n=16, selector="knn")
            answer = llm.complete("Write a Python function that reverses a string.")
            answer.raw["nad"]["ranking"]

    Token counts are in ``raw["usage"]``, where LlamaIndex's token counter finds them, and the evidence for the choice
    in ``raw["nad"]``; of a stream, both come with the last piece. Weights are loaded at the first call and shared by
    every instance of the process with the same model, device and dtype; their calls share batches. Errors are those
    of `nad_agents.exceptions`, and GenerationTimeoutError.

    Raises:
        ConfigurationError: a parameter is unknown, has a value that cannot work, or does not go with another.
    """

    context_window: int | None = Field(default=None, ge=1)
    """Tokens of prompt and answer together; None takes the model's own."""

    _known_window: int | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _check_nad_settings(self) -> NADLLM:
        self.check_settings()
        return self

    # --- what LlamaIndex asks about the model ---

    @classmethod
    def class_name(cls) -> str:
        """What the class is called where models are written down."""
        return "NADLLM"

    @property
    def metadata(self) -> LLMMetadata:
        """Name, context and abilities of the model.

        Where `context_window` is not given, the model's config is read for it, once; but never from within an event
        loop, where `DEFAULT_CONTEXT_WINDOW` of LlamaIndex stands in until the model is loaded.
        """
        if self._window() is None and not _in_event_loop():
            from nad_agents.models import read_context_length

            self._known_window = read_context_length(self.model_name) or DEFAULT_CONTEXT_WINDOW
        return self._metadata()

    def to_payload(self) -> dict[str, Any]:
        """What is told of the model with every event; reads nothing, since it is asked for in event loops."""
        return {"class_name": self.class_name(), **self._metadata().model_dump()}

    def _metadata(self) -> LLMMetadata:
        return LLMMetadata(
            context_window=self._window() or DEFAULT_CONTEXT_WINDOW,
            num_output=self.max_tokens,
            model_name=self.model_name if self.decoder is None else self.decoder.engine.name,
            is_chat_model=self.is_chat_model,
            is_function_calling_model=self.is_chat_model,
        )

    def _window(self) -> int | None:
        decoder = self.decoder or self._loaded.decoder
        own = None if decoder is None else decoder.engine.context_length
        return self.context_window or own or self._known_window

    def __getstate__(self) -> dict[str, Any]:
        """Parameters only: another process loads the model itself.

        Raises:
            ConfigurationError: the model was given as a decoder, which stays in its process.
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
        """Arguments of `chat` for a call with tools; a required one is the only thing that the grammar allows."""
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
        """The calls that an answer makes.

        Args:
            response: the answer.
            error_on_no_tool_call: whether there has to be one.
            **kwargs: not read.

        Raises:
            ValueError: there is none, as LlamaIndex expects it said.
        """
        found = [
            ToolSelection(tool_id=block.tool_call_id or "", tool_name=block.tool_name, tool_kwargs=block.tool_kwargs)
            for block in response.message.blocks
            if isinstance(block, ToolCallBlock) and isinstance(block.tool_kwargs, dict)
        ]
        if not found and error_on_no_tool_call:
            msg = f"the model called no tool, but answered {response.message.content!r}; pass tool_required=True"
            raise ValueError(msg)
        return found


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
