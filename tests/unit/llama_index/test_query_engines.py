"""Routers and sub-questions: whatever a random model writes, the choice is one of those that there are."""

import json

import pytest
from llama_index.core.base.base_selector import SingleSelection
from llama_index.core.prompts import PromptTemplate
from llama_index.core.query_engine import CustomQueryEngine, RouterQueryEngine, SubQuestionQueryEngine
from llama_index.core.schema import QueryBundle
from llama_index.core.selectors import PydanticMultiSelector, PydanticSingleSelector
from llama_index.core.tools import QueryEngineTool
from llama_index.llms.nad import NADLLM, NADQuestionGenerator, NADSelector

from nad_agents.testing import ScriptedDecoder
from tests.unit.llama_index.models import roomy_llm

CHOICES = ["the weather of the town", "the timetable of the buses", "the menu of the canteen"]
QUERY = "When does the bus go, and will it rain?"


@pytest.fixture(scope="module")
def llm():
    return roomy_llm(max_tokens=70)


class Echo(CustomQueryEngine):
    """Answers with its name."""

    name: str

    def custom_query(self, query_str):
        return f"{self.name} answers"


def tools():
    names = ("weather", "buses", "menu")
    return [
        QueryEngineTool.from_defaults(Echo(name=name), name=name, description=choice)
        for name, choice in zip(names, CHOICES, strict=True)
    ]


@pytest.mark.parametrize("most", [1, 2, None])
async def test_a_choice_is_always_one_that_there_is(llm, most):
    selector = NADSelector(llm, max_outputs=most)
    found = [selector.select(CHOICES, QUERY), await selector.aselect(CHOICES, QUERY)]
    for result in found:
        assert set(result.inds) <= {0, 1, 2}
        assert 1 <= len(result.inds) == len(set(result.inds)) <= (most or 3)
        assert len(result.reasons) == len(result.inds)
    assert found[0] == found[1]


def test_one_choice_named_twice_is_one():
    text = '{"selections": [{"index": 2, "reason": "a"}, {"index": 1, "reason": "b"}, {"index": 2, "reason": "c"}]}'
    selector = NADSelector(NADLLM(decoder=ScriptedDecoder(text)), max_outputs=None)
    assert selector.select(CHOICES, QUERY).selections == [
        SingleSelection(index=1, reason="a"),
        SingleSelection(index=0, reason="b"),
    ]


def test_a_router_asks_the_chosen_engine():
    decoder = ScriptedDecoder('{"selections": [{"index": 2, "reason": "buses"}]}')
    llm = NADLLM(decoder=decoder)
    engine = RouterQueryEngine.from_defaults(tools(), llm=llm, selector=NADSelector(llm))
    assert str(engine.query(QUERY)) == "buses answers"
    assert "(2) the timetable of the buses" in decoder.requests[0].text
    assert QUERY in decoder.requests[0].text


@pytest.mark.parametrize("kind", [PydanticSingleSelector, PydanticMultiSelector])
def test_the_selectors_of_llama_index_get_what_they_can_read(llm, kind):
    result = kind.from_defaults(llm=llm).select(CHOICES, QUERY)
    assert all(isinstance(index, int) for index in result.inds)


def test_the_prompts_are_where_llama_index_looks_for_them(llm):
    selector, generator = NADSelector(llm), NADQuestionGenerator(llm)
    for owner, key in ((selector, "prompt"), (generator, "question_gen_prompt")):
        assert "{query_str}" in owner.get_prompts()[key].get_template()
        owner.update_prompts({key: PromptTemplate("Which? {query_str}")})
        assert owner.get_prompts()[key].get_template() == "Which? {query_str}"


async def test_a_question_is_always_for_a_tool_that_there_is(llm):
    metadatas = [tool.metadata for tool in tools()]
    generator = NADQuestionGenerator(llm, max_questions=2, prompt=PromptTemplate("{tools_str} {query_str}"))
    found = generator.generate(metadatas, QueryBundle(QUERY))
    assert 1 <= len(found) <= 2
    assert {question.tool_name for question in found} <= {"weather", "buses", "menu"}
    assert await generator.agenerate(metadatas, QueryBundle(QUERY)) == found


def test_the_engine_asks_each_tool_its_question():
    asked = [{"sub_question": "Rain?", "tool_name": "weather"}, {"sub_question": "When?", "tool_name": "buses"}]
    text = json.dumps({"items": asked})
    llm = NADLLM(decoder=ScriptedDecoder(text, "At noon, in the rain."))
    engine = SubQuestionQueryEngine.from_defaults(
        tools(), llm=llm, question_gen=NADQuestionGenerator(llm), use_async=False, verbose=False
    )
    answer = engine.query(QUERY)
    assert str(answer) == "At noon, in the rain."
    assert [node.text for node in answer.source_nodes] == [
        "Sub question: Rain?\nResponse: weather answers",
        "Sub question: When?\nResponse: buses answers",
    ]
