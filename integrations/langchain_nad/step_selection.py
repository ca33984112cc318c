"""Choose the next step of an agent among N candidates, counting candidates that take the same step together."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolCall,
    ToolMessage,
    convert_to_openai_messages,
)
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from langchain_nad.chat_models import NADChatModel
from nad_agents.chat.edit_steps import call_key, schema_fault, step_fault, step_key
from nad_agents.chat.shown_text import ShownText, shown_text
from nad_agents.exceptions import ConfigurationError

__all__ = ["answered_calls", "choose_step", "group_steps", "hide_undecided_tokens", "nad_step_node"]

_NOT_STREAMED = "nostream"
"""Tag of model runs whose tokens LangGraph does not stream (`langgraph.constants.TAG_NOSTREAM`)."""

_REJECTED = 2
"""The highest of `_doubt`."""


def group_steps(answers: Sequence[AIMessage], exclude_args: Collection[str] = ()) -> list[list[int]]:
    """Group candidates that make the same calls with the same arguments; those that make no call are one group.

    Edits that stand in an answer's text count as calls. Python code in the arguments counts as the same if it differs
    only in form, such as in comments.

    Args:
        answers: The candidates' messages.
        exclude_args: Names of arguments that make no difference, such as a reason given in words.

    Returns:
        Indices into `answers` by group, in order of first appearance. A candidate with an invalid call is a group of
        its own.
    """
    groups: dict[str, list[int]] = {}
    for i, answer in enumerate(answers):
        calls = [(call["name"], call["args"]) for call in answer.tool_calls]
        step = step_key(answer.text, calls, exclude_args=exclude_args)
        key = f"invalid {i}" if answer.invalid_tool_calls else step
        groups.setdefault(key, []).append(i)
    return list(groups.values())


def answered_calls(messages: Sequence[BaseMessage], exclude_args: Collection[str] = ()) -> frozenset[str]:
    """Return the calls since the last message of the user that a tool has answered, for `choose_step`.

    Args:
        messages: The conversation.
        exclude_args: Names of arguments that make no difference between two calls.
    """
    last = max((i for i, message in enumerate(messages) if isinstance(message, HumanMessage)), default=-1)
    turn = messages[last + 1 :]
    answered = {message.tool_call_id for message in turn if isinstance(message, ToolMessage)}
    calls = [call for message in turn if isinstance(message, AIMessage) for call in message.tool_calls]
    return frozenset(_call_key(call, exclude_args) for call in calls if call["id"] in answered)


def choose_step(
    message: AIMessage,
    exclude_args: Collection[str] = (),
    *,
    answered: Collection[str] = frozenset(),
    conversation: Sequence[BaseMessage] = (),
    tools: Sequence[Any] = (),
) -> AIMessage:
    """Choose the step with the most agreement among the candidates behind a message.

    A group's score is the sum of its members' agreement (mean similarity of activated neurons to all other
    candidates), or under the selectors ``self_verify`` and ``p_true`` its best member's score. Within the group the
    selector's ranking decides. Rejected members rank after the others of their group. Some groups rank after all
    others, in this order: groups that a verifier rejected, groups whose calls have all been answered before, groups
    that cannot be carried out (see `nad_agents.chat.edit_steps`), and groups of invalid calls.

    Args:
        message: Answer of an `NADChatModel` that was called with ``include_candidates=True``.
        exclude_args: Names of arguments that make no difference between two calls.
        answered: Calls that have been answered before, from `answered_calls`; repeating them would give no new result.
        conversation: The messages before this one, which must contain the text that an edit replaces; if empty, edits
            are not checked.
        tools: The offered tools; the arguments must fit their schemas.

    Returns:
        The message, or one made of another candidate, with the groups under ``response_metadata["nad"]["steps"]``. A
        group that only repeats answered calls has ``"repeated": True`` there, and a group that cannot be carried out
        has the reason under ``"fault"``.

    Raises:
        ConfigurationError: The message comes without candidates.
    """
    evidence = dict(message.response_metadata.get("nad") or {})
    if "candidates" not in evidence:
        msg = "choosing a step needs the candidates of an NADChatModel; give the agent one as its model"
        raise ConfigurationError(msg)
    # a pruned candidate broke off in the middle of its step
    whole = [c for c in evidence.pop("candidates") if c["finish_reason"] != "pruned"]
    answers = [AIMessage(**c["message"]) for c in whole]
    # a judge scores each candidate alone, so a step that many candidates take is as good as its best candidate
    judged = evidence.get("selector") in ("self_verify", "p_true")
    agreement = [(c["score"] if judged else c["agreement"]) or 0.0 for c in whole]
    total = max if judged else sum
    doubts = [_doubt(c) for c in whole]

    def is_repeated(group: list[int]) -> bool:
        calls = answers[group[0]].tool_calls
        return bool(calls) and all(_call_key(call, exclude_args) in answered for call in calls)

    schemas = {tool["function"]["name"]: tool["function"].get("parameters") or {} for tool in map(_as_openai, tools)}
    shown = shown_text(convert_to_openai_messages(list(conversation))) if conversation else None
    faults = [_fault(answer, shown, schemas) for answer in answers]

    def standing(group: list[int]) -> tuple[bool, bool, bool, bool, float, int]:
        invalid, rejected = bool(answers[group[0]].invalid_tool_calls), all(doubts[i] == _REJECTED for i in group)
        agreeing, rank = total(agreement[i] for i in group), min(whole[i]["rank"] for i in group)
        possible = faults[group[0]] is None
        return (not invalid, possible, not is_repeated(group), not rejected, agreeing, -rank)

    # members that make no call may still differ in the edits that their texts contain
    alike = [part for group in group_steps(answers, exclude_args) for part in _by_fault(group, faults)]
    groups = sorted(alike, key=standing, reverse=True)
    winner = min(groups[0], key=lambda i: (doubts[i], whole[i]["rank"]))
    evidence["steps"] = [
        {
            "candidates": [whole[i]["index"] for i in group],
            "calls": [{"name": c["name"], "args": c["args"]} for c in answers[group[0]].tool_calls],
            "agreement": total(agreement[i] for i in group),
            **({"repeated": True} if is_repeated(group) else {}),
            **({"fault": faults[group[0]]} if faults[group[0]] is not None else {}),
        }
        for group in groups
    ]
    if whole[winner]["index"] == evidence["winner"]:
        return message.model_copy(update={"response_metadata": {**message.response_metadata, "nad": evidence}})
    evidence["winner"] = whole[winner]["index"]
    chosen = answers[winner]
    reason = "tool_calls" if chosen.tool_calls else whole[winner]["finish_reason"]
    return chosen.model_copy(
        update={
            # the content of a model with output_version="v1" is a list of blocks
            "content": chosen.content_blocks if isinstance(message.content, list) else chosen.content,
            "response_metadata": {**message.response_metadata, "nad": evidence, "finish_reason": reason},
            "usage_metadata": message.usage_metadata,
            "id": message.id,
            "name": message.name,
        }
    )


def hide_undecided_tokens(model: NADChatModel, options: Mapping[str, Any]) -> NADChatModel:
    """Return the model with its tokens kept out of a graph's stream where another candidate may yet be chosen.

    Args:
        model: The model that gives the candidates.
        options: Arguments of the call.
    """
    config = model.settings().config
    decided = options.get("pruning", config.pruning) != "never" and options.get("keep", config.keep) == 1
    return model if decided else model.model_copy(update={"tags": [*(model.tags or ()), _NOT_STREAMED]})


def nad_step_node(
    model: NADChatModel,
    tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool] = (),
    *,
    n: int | None = None,
    exclude_args: Collection[str] = (),
    demote_repeated: bool = True,
    system_prompt: str | SystemMessage | None = None,
    messages_key: str = "messages",
    **options: Any,
) -> Runnable[dict[str, Any], dict[str, list[AIMessage]]]:
    """Return a node for a LangGraph graph that takes one step of an agent, chosen by `choose_step`.

    Args:
        model: The model that gives the candidates.
        tools: Tools on offer; a `langgraph.prebuilt.ToolNode` runs them.
        n: Candidates per step; None leaves the number to the model.
        exclude_args: Names of arguments that make no difference between two calls.
        demote_repeated: Whether steps that only make calls again which a tool has answered since the user's last
            message come after all others; False where the same call may bring something new.
        system_prompt: Put before the messages, and kept out of the state.
        messages_key: Key of the messages in the graph's state.
        **options: Further arguments of each call, such as `tool_choice`.

    Returns:
        A node that adds one message; it works with and without an event loop.

    Raises:
        ConfigurationError: The model is no NADChatModel, or its tools cannot be used.
    """
    if not isinstance(model, NADChatModel):
        msg = f"model={type(model).__name__} gives no candidates to choose from; give an NADChatModel"
        raise ConfigurationError(msg)
    options = {"include_candidates": True, **({} if n is None else {"n": n}), **options}
    model = hide_undecided_tokens(model, options)
    bound = model.bind_tools(tools, **options) if tools else model.bind(**options)
    prompt = SystemMessage(system_prompt) if isinstance(system_prompt, str) else system_prompt
    system = [] if prompt is None else [prompt]

    def conversation(state: dict[str, Any]) -> LanguageModelInput:
        messages: list[BaseMessage] = [*system, *state[messages_key]]
        return messages

    def update(state: dict[str, Any], message: AIMessage) -> dict[str, list[AIMessage]]:
        before = state[messages_key]
        answered = answered_calls(before, exclude_args) if demote_repeated else frozenset()
        chosen = choose_step(message, exclude_args, answered=answered, conversation=[*system, *before], tools=tools)
        return {messages_key: [chosen]}

    def step(state: dict[str, Any], config: RunnableConfig) -> dict[str, list[AIMessage]]:
        return update(state, bound.invoke(conversation(state), config))

    async def astep(state: dict[str, Any], config: RunnableConfig) -> dict[str, list[AIMessage]]:
        return update(state, await bound.ainvoke(conversation(state), config))

    return RunnableLambda(step, afunc=astep, name="nad_step")


def _call_key(call: ToolCall, exclude_args: Collection[str]) -> str:
    """Return a call as text that is the same for calls which differ in excluded arguments only."""
    return call_key(call["name"], call["args"], exclude_args)


def _as_openai(tool: Any) -> dict[str, Any]:
    """Return a tool in OpenAI's form; a tool without this form, such as a provider's own tool, gets no schema."""
    try:
        found: dict[str, Any] = convert_to_openai_tool(tool)
    except (TypeError, ValueError):
        found = {}
    return found if "function" in found else {"function": {"name": ""}}


def _fault(answer: AIMessage, shown: ShownText | None, schemas: Mapping[str, Mapping[str, Any]]) -> str | None:
    calls = [(call["name"], call["args"]) for call in answer.tool_calls]
    if shown is not None:
        return step_fault(answer.text, calls, shown=shown, schemas=schemas)
    found = (schema_fault(arguments, schemas.get(name, {})) for name, arguments in calls)
    return next((fault for fault in found if fault is not None), None)


def _by_fault(group: list[int], faults: Sequence[str | None]) -> list[list[int]]:
    """Split a group into candidates that can be carried out and candidates that cannot."""
    parts = [[i for i in group if (faults[i] is None) is possible] for possible in (True, False)]
    return [part for part in parts if part]


def _doubt(candidate: dict[str, Any]) -> int:
    """Return 0 for a candidate that a verifier passed, 1 for one that was not checked, 2 for a rejected one."""
    verdict = candidate.get("verdict")
    return 1 if verdict is None else 0 if verdict["passed"] else _REJECTED
