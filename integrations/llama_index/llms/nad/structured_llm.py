"""`StructuredLLM`: LlamaIndex's methods that answer with an object of a class, held to its schema by a grammar."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing, closing
from typing import Any, TypeVar, cast

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.prompts import BasePromptTemplate
from llama_index.core.types import PydanticProgramMode
from llama_index.llms.nad.structured import PartialObjects, parsed_object, report_start, schema_arguments
from pydantic import BaseModel

__all__ = ["StructuredLLM"]

M = TypeVar("M", bound=BaseModel)


class StructuredLLM(FunctionCallingLLM):
    """A LlamaIndex model whose `chat` takes a `response_format`, by which it answers with objects of a class."""

    @property
    def held_by_grammar(self) -> bool:
        """Whether a grammar holds objects of a class to its schema; otherwise LlamaIndex's program asks for them."""
        return self.pydantic_program_mode == PydanticProgramMode.DEFAULT

    def structured_predict(
        self,
        output_cls: type[M],
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> M:
        """Answer with an object of a class; a grammar holds every candidate to the class's schema.

        Args:
            output_cls: A pydantic class.
            prompt: The prompt.
            llm_kwargs: Arguments of the call; see `chat`.
            **prompt_args: Variables of the prompt.

        Raises:
            StructuredOutputError: The token limit cut the object off, or the class refuses it by a rule that its
                schema does not say.
            ConfigurationError: The schema cannot be turned into a grammar; the message names the part.
        """
        if not self.held_by_grammar:
            return cast("M", super().structured_predict(output_cls, prompt, llm_kwargs, **prompt_args))
        report_start(output_cls, prompt, prompt_args)
        messages = self._format_messages(prompt, prompt_args)
        return parsed_object(self.chat(messages, **schema_arguments(output_cls, llm_kwargs)), output_cls)

    async def astructured_predict(
        self,
        output_cls: type[M],
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> M:
        """Answer as `structured_predict` does without blocking the event loop."""
        if not self.held_by_grammar:
            return cast("M", await super().astructured_predict(output_cls, prompt, llm_kwargs, **prompt_args))
        report_start(output_cls, prompt, prompt_args)
        messages = self._format_messages(prompt, prompt_args)
        return parsed_object(await self.achat(messages, **schema_arguments(output_cls, llm_kwargs)), output_cls)

    def stream_structured_predict(
        self,
        output_cls: type[M],
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Generator[Any, None, None]:
        """Stream the object of `structured_predict` as it grows.

        Unfinished objects are of a class with the same fields that accepts any value; the last one is of `output_cls`.
        """
        if not self.held_by_grammar:
            yield from super().stream_structured_predict(output_cls, prompt, llm_kwargs, **prompt_args)
            return
        report_start(output_cls, prompt, prompt_args)
        messages = self._format_messages(prompt, prompt_args)
        with closing(self.stream_chat(messages, **schema_arguments(output_cls, llm_kwargs))) as responses:
            yield from PartialObjects(output_cls).of(responses)

    async def astream_structured_predict(
        self,
        output_cls: type[M],
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> AsyncGenerator[Any, None]:
        """Stream as `stream_structured_predict` does without blocking the event loop."""
        if not self.held_by_grammar:
            return await super().astream_structured_predict(output_cls, prompt, llm_kwargs, **prompt_args)

        async def generate() -> AsyncGenerator[Any, None]:
            report_start(output_cls, prompt, prompt_args)
            messages = self._format_messages(prompt, prompt_args)
            responses = await self.astream_chat(messages, **schema_arguments(output_cls, llm_kwargs))
            async with aclosing(responses):
                async for partial in PartialObjects(output_cls).aof(responses):
                    yield partial

        return generate()

    def _format_messages(self, prompt: BasePromptTemplate, variables: dict[str, Any]) -> list[ChatMessage]:
        return self._extend_messages(prompt.format_messages(llm=self, **variables))
