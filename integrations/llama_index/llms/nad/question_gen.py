"""`NADQuestionGenerator`: divides a question into questions to the tools of a `SubQuestionQueryEngine`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from llama_index.core.prompts import BasePromptTemplate, PromptTemplate
from llama_index.core.prompts.mixin import PromptDictType
from llama_index.core.question_gen.prompts import DEFAULT_SUB_QUESTION_PROMPT_TMPL, build_tools_text
from llama_index.core.question_gen.types import BaseQuestionGenerator, SubQuestion
from llama_index.core.schema import QueryBundle
from llama_index.core.tools.types import ToolMetadata
from llama_index.llms.nad.base import NADLLM
from pydantic import BaseModel, Field, create_model

__all__ = ["NADQuestionGenerator"]

_QUESTION_CHARACTERS = 200


class NADQuestionGenerator(BaseQuestionGenerator):
    """Lets the model divide a question into questions to tools; a grammar allows only existing tools.

    Example:
        .. code-block:: python

            SubQuestionQueryEngine.from_defaults(tools, llm=llm, question_gen=NADQuestionGenerator(llm))

    Args:
        llm: The model.
        max_questions: Largest number of questions.
        prompt: The prompt, with the variables `tools_str` and `query_str`; None uses LlamaIndex's own prompt.
    """

    def __init__(self, llm: NADLLM, *, max_questions: int = 5, prompt: BasePromptTemplate | None = None) -> None:
        self._llm = llm
        self._max_questions = max_questions
        self._prompt: BasePromptTemplate = prompt or PromptTemplate(DEFAULT_SUB_QUESTION_PROMPT_TMPL)

    def _get_prompts(self) -> PromptDictType:
        return {"question_gen_prompt": self._prompt}

    def _update_prompts(self, prompts_dict: PromptDictType) -> None:
        self._prompt = prompts_dict.get("question_gen_prompt", self._prompt)

    def generate(self, tools: Sequence[ToolMetadata], query: QueryBundle) -> list[SubQuestion]:
        """Return at least one question to a tool.

        Args:
            tools: The tools; the model chooses among them by their names and descriptions.
            query: The question.
        """
        asked = _variables(tools, query)
        return _questions(self._llm.structured_predict(self._output_class(tools), self._prompt, **asked))

    async def agenerate(self, tools: Sequence[ToolMetadata], query: QueryBundle) -> list[SubQuestion]:
        """Return the questions of `generate` without blocking the event loop."""
        asked = _variables(tools, query)
        return _questions(await self._llm.astructured_predict(self._output_class(tools), self._prompt, **asked))

    def _output_class(self, tools: Sequence[ToolMetadata]) -> type[BaseModel]:
        names: Any = Literal[tuple(tool.name for tool in tools)]
        question = create_model(
            "Question",
            sub_question=(str, Field(min_length=1, max_length=_QUESTION_CHARACTERS)),
            tool_name=(names, ...),
        )
        # type checkers cannot follow the class, which is created at run time
        items: Any = list[question]  # type: ignore[valid-type]
        return create_model("Questions", items=(items, Field(min_length=1, max_length=self._max_questions)))


def _variables(tools: Sequence[ToolMetadata], query: QueryBundle) -> dict[str, Any]:
    return {"tools_str": build_tools_text(tools), "query_str": query.query_str}


def _questions(output: Any) -> list[SubQuestion]:
    return [SubQuestion(sub_question=item.sub_question, tool_name=item.tool_name) for item in output.items]
