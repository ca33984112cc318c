"""Tools: offered, forced, streamed, called; and an agent of LlamaIndex's own."""

from typing import Annotated

import pytest
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.llms.nad import NADLLM
from llama_index.llms.nad.outputs import LlamaIndexChat

from nad_agents import ConfigurationError, SamplingConfig
from nad_agents.chat.output_spec import OutputSpec
from nad_agents.chat.prepare import PreparedChat
from nad_agents.chat.response_parser import ToolCallParser
from nad_agents.events import Finished, TextDelta
from nad_agents.testing import ScriptedAnswer, ScriptedDecoder
from tests.unit.llama_index.models import roomy_llm

HELLO = [ChatMessage("hello")]


def add(a: Annotated[int, "The first."], b: int) -> int:
    """Add two whole numbers."""
    return a + b


def now() -> str:
    """Tell the time."""
    return "noon"


ADD, NOW = FunctionTool.from_defaults(add), FunctionTool.from_defaults(now)


@pytest.fixture(scope="module")
def llm():
    return roomy_llm()


@pytest.mark.parametrize("asked", [{"tool_required": True}, {"tool_choice": "add"}, {"tool_choice": "any"}])
def test_a_forced_choice_always_yields_one_valid_call(llm, asked):
    for seed in range(2):
        response = llm.chat_with_tools([ADD, NOW], user_msg="hello", seed=seed, **asked)
        assert response.raw["finish_reason"] == "tool_calls"
        (call,) = llm.get_tool_calls_from_response(response)
        assert call.tool_id.startswith("call_")
        if call.tool_name == "add":
            assert {type(value) for value in call.tool_kwargs.values()} == {int}
            assert set(call.tool_kwargs) == {"a", "b"}
        else:
            assert asked.get("tool_choice") != "add"
            assert (call.tool_name, call.tool_kwargs) == ("now", {})
        assert not response.message.content


async def test_the_same_call_in_every_form(llm):
    asked = {"user_msg": "hello", "tool_required": True}
    whole = llm.chat_with_tools([ADD], **asked)
    pieces = list(llm.stream_chat_with_tools([ADD], **asked))
    apieces = [piece async for piece in await llm.astream_chat_with_tools([ADD], **asked)]
    found = [whole, pieces[-1], apieces[-1], await llm.achat_with_tools([ADD], **asked)]
    calls = [llm.get_tool_calls_from_response(response)[0].tool_kwargs for response in found]
    assert calls == [calls[0]] * 4
    # nothing of a call is shown as text
    assert {piece.delta for piece in pieces} == {""}


def test_several_calls_where_they_are_allowed(llm):
    def count(parallel, seed):
        # hot enough that the random model does not always end after the first call, and the longest answer wins
        hot = {"temperature": 20.0, "max_tokens": 120, "selector": lambda group: list(map(len, group.rollouts))}
        asked = {"user_msg": "hello", "tool_required": True, "allow_parallel_tool_calls": parallel}
        response = llm.chat_with_tools([NOW], **asked, **hot, seed=seed)
        return len(llm.get_tool_calls_from_response(response))

    seed = next(seed for seed in range(8) if count(parallel=True, seed=seed) > 1)
    assert count(parallel=False, seed=seed) == 1


def test_predict_and_call(llm):
    done = llm.predict_and_call([ADD], user_msg="hello", tool_required=True)
    (output,) = done.sources
    assert not output.is_error
    assert output.raw_output == sum(output.raw_input["kwargs"].values())


def test_a_free_choice_may_be_prose(llm):
    response = llm.chat_with_tools([ADD], user_msg="hello")
    assert response.message.content
    assert llm.get_tool_calls_from_response(response, error_on_no_tool_call=False) == []
    with pytest.raises(ValueError, match="called no tool"):
        llm.get_tool_calls_from_response(response)


def test_the_history_stays_the_callers(llm):
    history = [ChatMessage("before")]
    asked = llm._prepare_chat_with_tools([ADD], user_msg="hello", chat_history=history)
    assert [m.content for m in asked["messages"]] == ["before", "hello"]
    assert len(history) == 1
    assert asked["tool_choice"] is None
    # what cannot be called cannot be required
    assert llm._prepare_chat_with_tools([], user_msg="hello", tool_required=True)["tool_choice"] is None


def test_what_is_wrong_is_said(llm):
    with pytest.raises(ConfigurationError, match="did you mean 'add'"):
        llm.chat_with_tools([ADD], user_msg="hello", tool_choice="ad")
    with pytest.raises(ConfigurationError, match="cannot be used as a tool"):
        llm.chat(HELLO, tools=[42])


def answered(llm, text, parallel=True):
    """Text that a random model does not write, through the call that reads it."""
    selection = llm.get_decoder().decode("hello", sampling=SamplingConfig(n=2, max_new_tokens=2))
    found = selection.model_copy(update={"text": text})
    prepared = PreparedChat([], OutputSpec(parallel=parallel), ToolCallParser(("add",)))
    call = LlamaIndexChat(None, llm.settings(), prepared)
    pieces = [p for event in (*map(TextDelta, text), Finished(found)) for p in call.responses_to(event)]
    return call.response(found), pieces


CALL = '{"name": "add", "arguments": {"a": 1, "b": 2}}'


def test_calls_after_words(llm):
    response, pieces = answered(llm, f"Let me see. {CALL}")
    assert response.message.content == "Let me see."
    assert llm.get_tool_calls_from_response(response)[0].tool_kwargs == {"a": 1, "b": 2}
    assert "".join(piece.delta for piece in pieces) == "Let me see."
    assert pieces[-1].message.blocks[1].tool_kwargs == {"a": 1, "b": 2}


def test_what_is_no_call_is_not_lost(llm):
    for text in ("An {odd} text.", '{"name": "add", "arguments": {"a": 1, '):
        response, pieces = answered(llm, text)
        assert response.message.content == text
        assert llm.get_tool_calls_from_response(response, error_on_no_tool_call=False) == []
        assert "".join(piece.delta for piece in pieces) == text


def test_the_first_of_several_calls(llm):
    text = f"<tool_call>{CALL}</tool_call><tool_call>{CALL}</tool_call>"
    assert len(answered(llm, text)[0].message.blocks) == 2
    assert len(answered(llm, text, parallel=False)[0].message.blocks) == 1


# LlamaIndex's own agents call pydantic's old names
@pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20")
@pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince211")
@pytest.mark.parametrize("streaming", [True, False])
async def test_an_agent(llm, streaming):
    agent = FunctionAgent(tools=[ADD], llm=llm, initial_tool_choice="add", streaming=streaming)
    done = await agent.run("hello")
    # the first step is forced, the second is free, where the random model writes prose
    (called,) = done.tool_calls
    assert called.tool_name == "add"
    assert called.tool_output.raw_output == sum(called.tool_kwargs.values())
    assert done.response.content
    assert done.raw["nad"]["n"] == 4


def test_json_that_names_no_tool_streams_while_it_is_written(llm):
    text = 'For example {"name": "Bob", "age": 3}, which is a person.'
    response, pieces = answered(llm, text)
    assert response.message.content == text
    assert len([piece for piece in pieces if piece.delta]) > 30


def scripted(text, finish_reason="stop"):
    return NADLLM(decoder=ScriptedDecoder(ScriptedAnswer([text], finish_reason=finish_reason)))


def test_a_call_that_does_not_fit_is_text():
    text = '<tool_call>{"name": "add", "arguments": {"a": "one", "b": 2}}</tool_call>'
    response = scripted(text).chat_with_tools([ADD], user_msg="1 + 2?")
    assert response.message.content == text
    assert response.raw["finish_reason"] == "stop"
    mended = scripted(text.replace('"one"', '"1"'))
    (call,) = mended.get_tool_calls_from_response(mended.chat_with_tools([ADD], user_msg="1 + 2?"))
    assert call.tool_kwargs == {"a": 1, "b": 2}


def test_a_cut_call_after_a_whole_one_is_no_finished_answer():
    whole = '<tool_call>{"name": "add", "arguments": {"a": 1, "b": 2}}</tool_call>'
    response = scripted(whole + whole[:-30], "length").chat_with_tools([ADD], user_msg="1 + 2?")
    assert response.raw["finish_reason"] == "length"
