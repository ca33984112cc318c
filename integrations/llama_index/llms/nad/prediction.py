"""Predicting objects: `structured_predict` in its four forms, through the grammar."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing, closing
from typing import Any, TypeVar, cast

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.prompts import BasePromptTemplate
from llama_index.core.types import PydanticProgramMode
from llama_index.llms.nad.endpoints import AnsweringLLM
from llama_index.llms.nad.structured import Growing, parsed, shape, started
from pydantic import BaseModel

__all__ = ["PredictingLLM"]

M = TypeVar("M", bound=BaseModel)


class PredictingLLM(AnsweringLLM):
    """A model whose answers may be objects of a class; see `NADLLM`."""

    def structured_predict(
        self,
        output_cls: type[M],
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> M:
        """An object of a class; all candidates are held to its schema by a grammar.

        Args:
            output_cls: a pydantic class.
            prompt: what is asked.
            llm_kwargs: see `chat`.
            **prompt_args: variables of the prompt.

        Raises:
            StructuredOutputError: the token limit cut the object off, or a rule that its schema does not say refuses
                it.
            ConfigurationError: the schema cannot be turned into a grammar; names the part.
        """
        if not self._by_grammar:
            return cast("M", super().structured_predict(output_cls, prompt, llm_kwargs, **prompt_args))
        started(output_cls, prompt, prompt_args)
        return parsed(self.chat(self._asked(prompt, prompt_args), **shape(output_cls, llm_kwargs)), output_cls)

    async def astructured_predict(
        self,
        output_cls: type[M],
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> M:
        """`structured_predict` without blocking the event loop."""
        if not self._by_grammar:
            return cast("M", await super().astructured_predict(output_cls, prompt, llm_kwargs, **prompt_args))
        started(output_cls, prompt, prompt_args)
        response = await self.achat(self._asked(prompt, prompt_args), **shape(output_cls, llm_kwargs))
        return parsed(response, output_cls)

    def stream_structured_predict(
        self,
        output_cls: type[M],
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Generator[Any, None, None]:
        """`structured_predict` as the object grows; unfinished objects are of a class that takes any value."""
        if not self._by_grammar:
            yield from super().stream_structured_predict(output_cls, prompt, llm_kwargs, **prompt_args)
            return
        started(output_cls, prompt, prompt_args)
        responses = self.stream_chat(self._asked(prompt, prompt_args), **shape(output_cls, llm_kwargs))
        with closing(responses):
            yield from Growing(output_cls).over(responses)

    async def astream_structured_predict(
        self,
        output_cls: type[M],
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> AsyncGenerator[Any, None]:
        """`stream_structured_predict` without blocking the event loop."""
        if not self._by_grammar:
            return await super().astream_structured_predict(output_cls, prompt, llm_kwargs, **prompt_args)

        async def generate() -> AsyncGenerator[Any, None]:
            started(output_cls, prompt, prompt_args)
            responses = await self.astream_chat(self._asked(prompt, prompt_args), **shape(output_cls, llm_kwargs))
            async with aclosing(responses):
                async for found in Growing(output_cls).aover(responses):
                    yield found

        return generate()

    @property
    def _by_grammar(self) -> bool:
        return self.is_chat_model and self.pydantic_program_mode == PydanticProgramMode.DEFAULT

    def _asked(self, prompt: BasePromptTemplate, arguments: dict[str, Any]) -> list[ChatMessage]:
        return self._extend_messages(prompt.format_messages(llm=self, **arguments))
