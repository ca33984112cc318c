"""Steps of an agent: grouping, choosing, and a whole loop with real tool calls."""

import json
from functools import reduce
from operator import add as merged
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_nad import NADStepSelection, nad_step_node
from langchain_nad.outputs import message_fields
from langchain_nad.step_selection import answered_calls, choose_step, group_steps
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from pydantic import BaseModel

from nad_agents import ConfigurationError
from nad_agents.chat.tool_parser import parse_answer
from tests.unit.langchain.chats import json_decoder, tiny_chat


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def call(**args: Any) -> str:
    return json.dumps({"name": "add", "arguments": args})


def parts(text):
    """What a message is made of, as the evidence of an NADChatModel has it."""
    found = parse_answer(text, ["add"])
    return message_fields(found)


class TestGroups:
    def test_same_calls_are_one_step(self):
        texts = [call(a=1, b=2), "prose", call(b=2, a=1), call(a=1, b=3), "other prose", '{"name": "add", "argu']
        answers = [AIMessage(**parts(text)) for text in texts]
        assert group_steps(answers) == [[0, 2], [1, 4], [3], [5]]

    def test_arguments_may_make_no_difference(self):
        answers = [AIMessage(**parts(call(a=1, why=why))) for why in ("x", "y")]
        assert group_steps(answers) == [[0], [1]]
        assert group_steps(answers, ["why"]) == [[0, 1]]


def edit(old, new):
    args = {"path": "a.py", "old_string": old, "new_string": new}
    return {"name": "edit", "args": args, "id": "c", "type": "tool_call"}


def test_an_edit_of_what_was_never_shown_comes_last_and_equal_code_is_one_step():
    steps = [edit("x = 9", "y = 1"), edit("x = 1", "y = 1\nz = 2"), edit("x = 1", "y = 1  # so\nz = 2\n")]
    made = [
        {
            "message": {"content": "", "tool_calls": [step]},
            "index": i,
            "rank": i,
            "agreement": 0.5,
            "finish_reason": "stop",
        }
        for i, step in enumerate(steps)
    ]
    before = [HumanMessage("The file:\nx = 1\n")]
    chosen = choose_step(message(made), conversation=before)
    assert chosen.response_metadata["nad"]["winner"] == 1
    first, last = chosen.response_metadata["nad"]["steps"]
    assert first["candidates"] == [1, 2]
    assert "'old_string' is nowhere in the conversation" in last["fault"]
    # without a conversation nothing is looked up, but arguments have to fit the tools
    assert "fault" not in choose_step(message(made)).response_metadata["nad"]["steps"][-1]
    tool = {"name": "edit", "description": "Edit.", "parameters": {"type": "object", "required": ["mode"]}}
    faults = choose_step(message(made), tools=[tool]).response_metadata["nad"]["steps"]
    assert all("'mode' is a required property" in step["fault"] for step in faults)


def test_a_judges_scores_choose_the_step_whatever_the_neurons_agree_on():
    steps = [edit("", f"y = {1 if i < 2 else 2}") for i in range(3)]
    made = [
        {
            "message": {"content": "", "tool_calls": [step]},
            "index": i,
            "rank": 2 - i,
            "score": 0.3 * i,
            "agreement": 0.5,
            "finish_reason": "stop",
        }
        for i, step in enumerate(steps)
    ]
    by_neurons = message(made)
    assert choose_step(by_neurons).response_metadata["nad"]["winner"] in (0, 1)
    judged = message(made)
    judged.response_metadata["nad"]["selector"] = "self_verify"
    assert choose_step(judged).response_metadata["nad"]["winner"] == 2


def message(candidates, winner=0):
    evidence = {"winner": winner, "ranking": [], "candidates": candidates}
    return AIMessage(
        **candidates[winner]["message"],
        response_metadata={"nad": evidence, "finish_reason": "stop", "model_name": "m"},
        id="m1",
    )


def candidate(index, text, rank, agreement, finish_reason="stop", passed=None):
    found = {"index": index, "rank": rank, "agreement": agreement, "finish_reason": finish_reason}
    return found | {"message": parts(text)} | {"verdict": None if passed is None else {"passed": passed}}


class TestChoice:
    def test_many_who_agree_win_over_the_best_ranked_alone(self):
        chosen = choose_step(
            message(
                [
                    candidate(0, call(a=9, b=9), 0, 0.5),
                    candidate(1, call(a=1, b=2), 2, 0.4),
                    candidate(2, call(b=2, a=1), 1, 0.4),
                    candidate(3, "prose", 3, 0.6),
                ]
            )
        )
        assert chosen.tool_calls[0]["args"] == {"a": 1, "b": 2}
        evidence = chosen.response_metadata["nad"]
        assert evidence["winner"] == 2
        assert [step["candidates"] for step in evidence["steps"]] == [[1, 2], [3], [0]]
        assert "candidates" not in evidence
        assert chosen.response_metadata["finish_reason"] == "tool_calls"
        assert chosen.id == "m1"

    def test_broken_and_dropped_candidates_do_not_win(self):
        chosen = choose_step(
            message(
                [
                    candidate(0, '{"name": "add", "argu', 0, 0.9),
                    candidate(1, '{"name": "add", "argu', 1, 0.9),
                    candidate(2, "prose", 2, 0.1),
                    candidate(3, call(a=1, b=1), 3, 0.9, "pruned"),
                ]
            )
        )
        assert chosen.content == "prose"
        assert not chosen.tool_calls

    def test_what_a_verifier_rejected_does_not_win(self):
        chosen = choose_step(
            message(
                [
                    candidate(0, "wrong", 0, 0.9, passed=False),
                    candidate(1, "right", 1, 0.2, passed=True),
                    candidate(2, "unseen", 2, 0.9),
                    candidate(3, call(a=1, b=1), 3, 0.1),
                ],
                winner=1,
            )
        )
        assert chosen.content == "right"
        all_wrong = [candidate(0, "wrong", 0, 0.9, passed=False), candidate(1, call(a=1, b=1), 1, 0.1)]
        assert choose_step(message(all_wrong)).tool_calls

    def test_the_message_is_left_as_it_was(self):
        given = message([candidate(0, "a", 1, 0.1), candidate(1, call(a=1, b=1), 0, 0.9)])
        for _ in range(2):
            assert choose_step(given).tool_calls
        assert len(given.response_metadata["nad"]["candidates"]) == 2

    def test_a_model_that_gives_blocks_goes_on_giving_blocks(self):
        given = message([candidate(0, "a", 1, 0.1), candidate(1, call(a=1, b=1), 0, 0.9)])
        given.content = [{"type": "text", "text": "a"}]
        chosen = choose_step(given)
        assert [block["type"] for block in chosen.content] == ["tool_call"]
        assert chosen.tool_calls

    def test_needs_candidates(self):
        with pytest.raises(ConfigurationError, match="NADChatModel"):
            choose_step(AIMessage("x"))


class ForceFirst(AgentMiddleware):
    """Makes the first step a call and the second an answer; a random model would not know."""

    def _forced(self, request):
        done = any(isinstance(m, ToolMessage) for m in request.messages)
        return request.override(tool_choice="none" if done else "any")

    def wrap_model_call(self, request, handler):
        return handler(self._forced(request))

    async def awrap_model_call(self, request, handler):
        return await handler(self._forced(request))


@pytest.fixture(scope="module")
def agent():
    chat = tiny_chat(decoder=json_decoder(), max_tokens=36)
    return create_agent(chat, [add], middleware=[ForceFirst(), NADStepSelection(n=3)], system_prompt="Be exact.")


def check(messages):
    kinds = [type(m) for m in messages]
    assert kinds == [HumanMessage, AIMessage, ToolMessage, AIMessage]
    args = messages[1].tool_calls[0]["args"]
    assert messages[2].content == str(args["a"] + args["b"])
    assert messages[1].response_metadata["nad"]["n"] == 3
    assert messages[1].response_metadata["nad"]["steps"]
    assert messages[3].content


def test_an_agent_loop_completes(agent):
    check(agent.invoke({"messages": [HumanMessage("2 + 3?")]})["messages"])


async def test_an_agent_loop_completes_without_blocking(agent):
    check((await agent.ainvoke({"messages": [HumanMessage("2 + 3?")]}))["messages"])


@tool
def flip(up: bool) -> str:
    """Flip a coin."""
    return "heads" if up else "tails"


@pytest.mark.parametrize("pruning", ["never", "first_chunk"])
def test_a_stream_shows_the_step_that_is_taken(pruning):
    chat = tiny_chat(decoder=json_decoder(), max_tokens=36, temperature=2.0, pruning=pruning)
    graph = StateGraph(MessagesState)
    graph.add_node("step", nad_step_node(chat, [flip], n=5, tool_choice="any"))
    graph.add_edge(START, "step")
    graph.add_edge("step", END)
    agent = create_agent(chat, [flip], middleware=[ForceFirst(), NADStepSelection(n=5)])
    for runner in (graph.compile(), agent):
        for number in range(3 if pruning == "never" else 2):
            shown, state = [], []
            asked = {"messages": [HumanMessage("x" * number + "?")]}
            for mode, part in runner.stream(asked, stream_mode=["messages", "values"]):
                if mode == "values":
                    state = part["messages"]
                else:
                    shown.append(part[0])
            parts = [message for message in shown if message.id == state[1].id]
            assert (len(parts) > 1) is (pruning != "never")
            full = reduce(merged, parts)
            assert [call["args"] for call in full.tool_calls] == [call["args"] for call in state[1].tool_calls]


class TestGraph:
    """A graph of one's own."""

    def graph(self, **options):
        chat = tiny_chat(decoder=json_decoder(), max_tokens=36)
        common = {"n": 3, "exclude_args": ["b"], "system_prompt": "Be exact.", **options}
        graph = StateGraph(MessagesState)
        graph.add_node("call", nad_step_node(chat, [add], tool_choice="any", **common))
        graph.add_node("tools", ToolNode([add]))
        graph.add_node("answer", nad_step_node(chat, [add], tool_choice="none", **common))
        graph.add_edge(START, "call")
        graph.add_conditional_edges("call", tools_condition)
        graph.add_edge("tools", "answer")
        graph.add_edge("answer", END)
        return graph.compile()

    def test_runs_the_tools_that_were_chosen(self):
        check(self.graph().invoke({"messages": [HumanMessage("2 + 3?")]})["messages"])

    async def test_without_blocking_and_streamed(self):
        check((await self.graph().ainvoke({"messages": [HumanMessage("2 + 3?")]}))["messages"])
        seen = [part async for part in self.graph().astream({"messages": [HumanMessage("2?")]}, stream_mode="messages")]
        assert {metadata["langgraph_node"] for _, metadata in seen} == {"call", "tools", "answer"}

    def test_candidates_that_differ_in_excluded_arguments_count_together(self):
        messages = self.graph().invoke({"messages": [HumanMessage("2 + 3?")]})["messages"]
        keys = [json.dumps(step["calls"][0]["args"]["a"]) for step in messages[1].response_metadata["nad"]["steps"]]
        assert len(keys) == len(set(keys))

    def test_without_tools_and_with_a_state_of_another_name(self):
        node = nad_step_node(tiny_chat(), messages_key="chat")
        (answer,) = node.invoke({"chat": [HumanMessage("hello")]})["chat"]
        assert answer.content
        assert len(answer.response_metadata["nad"]["steps"]) == 1

    def test_refused(self):
        with pytest.raises(ConfigurationError, match="GenericFakeChatModel gives no candidates"):
            nad_step_node(GenericFakeChatModel(messages=iter(())), [add])
        with pytest.raises(ConfigurationError, match="did you mean 'add'"):
            nad_step_node(tiny_chat(), [add], tool_choice="ad")


class Answer(BaseModel):
    """The answer."""

    value: int


@pytest.mark.parametrize(
    "strategy", [Answer, ProviderStrategy(Answer), ToolStrategy(Answer)], ids=["auto", "json", "tool"]
)
def test_an_agents_answer_may_have_a_shape(strategy):
    chat = tiny_chat(decoder=json_decoder(), max_tokens=36)
    found = create_agent(chat, [], response_format=strategy).invoke({"messages": [HumanMessage("2 + 3?")]})
    assert isinstance(found["structured_response"], Answer)


@pytest.mark.parametrize("seed", range(3))
def test_an_answer_of_a_shape_is_a_step_like_others(seed):
    chat = tiny_chat(decoder=json_decoder(), max_tokens=120, seed=seed, temperature=3.0)
    steps = NADStepSelection(n=4)
    agent = create_agent(chat, [], middleware=[steps], response_format=ToolStrategy(Answer))
    found = agent.invoke({"messages": [HumanMessage("2 + 3?")]})
    assert isinstance(found["structured_response"], Answer)


def test_tools_and_a_shape_together():
    chat = tiny_chat(decoder=json_decoder(), max_tokens=36)
    schema = {"type": "json_schema", "json_schema": {"name": "answer", "schema": Answer.model_json_schema()}}
    for seed in range(3):
        message = chat.bind_tools([add], response_format=schema).invoke("2 + 3?", seed=seed)
        if message.tool_calls:
            assert set(message.tool_calls[0]["args"]) == {"a", "b"}
        else:
            Answer.model_validate_json(message.text)


class TestRepeatedCalls:
    """A call that was answered already is not made again where another candidate does something else."""

    REPEATED = call(a=1, b=2, why="x")

    def conversation(self, *texts, answered=True):
        found = [HumanMessage("add")]
        for text in texts:
            made = AIMessage(**parts(text))
            found.append(made)
            found += [ToolMessage("3", tool_call_id=c["id"]) for c in made.tool_calls if answered]
        return found

    def choose(self, messages, *texts, exclude_args=()):
        candidates = [candidate(i, text, i, 0.9 - 0.1 * i) for i, text in enumerate(texts)]
        answered = answered_calls(messages, exclude_args)
        return choose_step(message(candidates), exclude_args, answered=answered)

    @pytest.mark.parametrize("other", [call(a=5, b=6), "The sum is 3."])
    def test_it_comes_after_everything_else(self, other):
        chosen = self.choose(self.conversation(self.REPEATED), self.REPEATED, self.REPEATED, other)
        evidence = chosen.response_metadata["nad"]
        assert evidence["winner"] == 2
        assert [step.get("repeated") for step in evidence["steps"]] == [None, True]

    def test_only_an_invalid_call_comes_after_it(self):
        chosen = self.choose(self.conversation(self.REPEATED), '{"name": "add", "argu', self.REPEATED)
        assert chosen.response_metadata["nad"]["winner"] == 1

    def test_excluded_arguments_make_no_difference(self):
        asked = (self.conversation(self.REPEATED), call(a=1, b=2, why="y"), "3")
        assert self.choose(*asked).response_metadata["nad"]["winner"] == 0
        assert self.choose(*asked, exclude_args=["why"]).response_metadata["nad"]["winner"] == 1

    @pytest.mark.parametrize("after", [[], [HumanMessage("and again")]])
    def test_what_was_not_answered_in_this_turn_may_be_called(self, after):
        messages = [*self.conversation(self.REPEATED, answered=bool(after)), *after]
        assert self.choose(messages, self.REPEATED, "3").response_metadata["nad"]["winner"] == 0

    def test_a_parameter_turns_it_off(self):
        candidates = [candidate(0, self.REPEATED, 0, 0.9), candidate(1, "3", 1, 0.5)]

        class Response:
            result = (message(candidates),)
            structured_response = None

        class Request:
            system_message, tools = None, []
            messages = self.conversation(self.REPEATED)

        for demoted in (False, True):
            chosen = NADStepSelection(demote_repeated=demoted)._choose(Request, Response).result[0]
            assert chosen.response_metadata["nad"]["winner"] == int(demoted)
