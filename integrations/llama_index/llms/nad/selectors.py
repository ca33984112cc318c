"""`NADSelector`: chooses query engines and retrievers for LlamaIndex's routers, only among the existing ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llama_index.core.base.base_selector import BaseSelector, SelectorResult, SingleSelection
from llama_index.core.prompts import BasePromptTemplate, PromptTemplate
from llama_index.core.prompts.mixin import PromptDictType
from llama_index.core.schema import QueryBundle
from llama_index.core.selectors.prompts import (
    DEFAULT_MULTI_PYD_SELECT_PROMPT_TMPL,
    DEFAULT_SINGLE_PYD_SELECT_PROMPT_TMPL,
)
from llama_index.core.tools.types import ToolMetadata
from llama_index.llms.nad.base import NADLLM
from pydantic import BaseModel, Field, create_model

__all__ = ["NADSelector"]

_REASON_CHARACTERS = 200


class NADSelector(BaseSelector):
    """Lets the model choose among the choices of a router; a grammar allows only existing choices.

    Example:
        .. code-block:: python

            RouterQueryEngine.from_defaults(tools, llm=llm, selector=NADSelector(llm))

    Args:
        llm: The model.
        max_outputs: Largest number of choices; None sets no limit.
        prompt: The prompt, with the variables `num_choices`, `context_list`, `query_str` and, for more than one choice,
            `max_outputs`; None uses LlamaIndex's own prompt.
    """

    def __init__(self, llm: NADLLM, *, max_outputs: int | None = 1, prompt: BasePromptTemplate | None = None) -> None:
        default = DEFAULT_SINGLE_PYD_SELECT_PROMPT_TMPL if max_outputs == 1 else DEFAULT_MULTI_PYD_SELECT_PROMPT_TMPL
        self._llm = llm
        self._max_outputs = max_outputs
        self._prompt: BasePromptTemplate = prompt or PromptTemplate(default)

    def _get_prompts(self) -> PromptDictType:
        return {"prompt": self._prompt}

    def _update_prompts(self, prompts_dict: PromptDictType) -> None:
        self._prompt = prompts_dict.get("prompt", self._prompt)

    def _select(self, choices: Sequence[ToolMetadata], query: QueryBundle) -> SelectorResult:
        asked = self._variables(choices, query)
        return _result(self._llm.structured_predict(self._output_class(len(choices)), self._prompt, **asked))

    async def _aselect(self, choices: Sequence[ToolMetadata], query: QueryBundle) -> SelectorResult:
        asked = self._variables(choices, query)
        return _result(await self._llm.astructured_predict(self._output_class(len(choices)), self._prompt, **asked))

    def _variables(self, choices: Sequence[ToolMetadata], query: QueryBundle) -> dict[str, Any]:
        listed = (f"({i}) {' '.join(choice.description.split())}" for i, choice in enumerate(choices, 1))
        return {
            "num_choices": len(choices),
            "max_outputs": self._most(len(choices)),
            "context_list": "\n\n".join(listed),
            "query_str": query.query_str,
        }

    def _most(self, choices: int) -> int:
        return min(self._max_outputs or choices, choices)

    def _output_class(self, choices: int) -> type[BaseModel]:
        selection = create_model(
            "Selection",
            index=(int, Field(ge=1, le=choices, description="The number of the choice.")),
            reason=(str, Field(max_length=_REASON_CHARACTERS, description="Why it is the most relevant.")),
        )
        most = self._most(choices)
        # type checkers cannot follow the class, which is created at run time
        items: Any = list[selection]  # type: ignore[valid-type]
        return create_model("Selections", selections=(items, Field(min_length=1, max_length=most)))


def _result(output: Any) -> SelectorResult:
    # a model may name a choice twice, and the router would then query it twice
    found = {selection.index: selection.reason for selection in reversed(output.selections)}
    ordered = dict.fromkeys(selection.index for selection in output.selections)
    return SelectorResult(selections=[SingleSelection(index=i - 1, reason=found[i]) for i in ordered])
