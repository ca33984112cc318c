"""Each step of an agent a selection among N next steps, with candidates that do the same counted together."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any

from langchain.agents.middleware import AgentMiddleware, ModelRequest, ModelResponse
from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage, SystemMessage
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
from langchain_core.tools import BaseTool

from langchain_nad.chat_models import NADChatModel
from nad_agents.exceptions import ConfigurationError

__all__ = ["NADStepSelection", "choose_step", "group_steps", "nad_step_node", "unstreamed"]


class NADStepSelection(AgentMiddleware[Any, Any, Any]):
    """Chooses an agent's next step among N by what the candidates do, and by how much their neurons agree.

    The candidates of one step come from one call of an `NADChatModel`. Those that make the same calls form a group,
    and many candidates which agree win; see `choose_step`. A graph's stream of messages shows a step once it is chosen,
    and its tokens only where pruning leaves a single candidate to choose.

    Args:
        n: candidates per step; None leaves it to the model.
        exclude_args: arguments that make no difference between two calls.

    Example:
        .. code-block:: python

            from langchain.agents import create_agent
            from langchain_core.tools import tool
            from langchain_nad import NADChatModel, NADStepSelection


            @tool
            def multiply(a: int, b: int, why: str = "") -> int:
                '''Multiply two whole numbers.'''
                return a * b


            step = NADStepSelection(exclude_args=["why"])
            agent = create_agent(NADChatModel(n=16), [multiply], middleware=[step])
            answer = agent.invoke({"messages": [("user", "What is 17 times 23?")]})["messages"][-1]
            answer.response_metadata["nad"]["steps"]
    """

    def __init__(self, n: int | None = None, *, exclude_args: Collection[str] = ()) -> None:
        super().__init__()
        self.n = n
        self.exclude_args = frozenset(exclude_args)

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any]:
        """Ask for the candidates, and put the chosen one in the answer's place."""
        return self._choose(handler(self._with_candidates(request)))

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
    ) -> ModelResponse[Any]:
        """`wrap_model_call` without blocking the event loop."""
        return self._choose(await handler(self._with_candidates(request)))

    def _with_candidates(self, request: ModelRequest[Any]) -> ModelRequest[Any]:
        settings = {**request.model_settings, "include_candidates": True}
        if self.n is not None:
            settings["n"] = self.n
        model = request.model
        model = unstreamed(model, settings) if isinstance(model, NADChatModel) else model
        return request.override(model=model, model_settings=settings)

    def _choose(self, response: ModelResponse[Any]) -> ModelResponse[Any]:
        result = [choose_step(m, self.exclude_args) if isinstance(m, AIMessage) else m for m in response.result]
        return ModelResponse(result=result, structured_response=response.structured_response)


_NOT_STREAMED = "nostream"
"""LangGraph shows no tokens of a model run with this tag (`langgraph.constants.TAG_NOSTREAM`)."""


def group_steps(answers: Sequence[AIMessage], exclude_args: Collection[str] = ()) -> list[list[int]]:
    """Candidates that make the same calls with the same arguments, together; those that make none are one group.

    Args:
        answers: the candidates.
        exclude_args: arguments that make no difference, such as a reason given in words.

    Returns:
        Candidate indices by group, in order of first appearance. A broken call is alone.
    """
    groups: dict[str, list[int]] = {}
    for i, answer in enumerate(answers):
        calls = [
            (call["name"], {name: value for name, value in call["args"].items() if name not in exclude_args})
            for call in answer.tool_calls
        ]
        key = f"broken {i}" if answer.invalid_tool_calls else json.dumps(calls, sort_keys=True, ensure_ascii=False)
        groups.setdefault(key, []).append(i)
    return list(groups.values())


def choose_step(message: AIMessage, exclude_args: Collection[str] = ()) -> AIMessage:
    """The step that most of the agreement is for, of the candidates behind a message.

    A group's score is the sum of its members' agreement (mean similarity of activated neurons to all the other
    candidates). Within the group the selector's ranking decides. Groups of broken calls come last, and so do groups
    and members that a verifier rejected.

    Args:
        message: of an `NADChatModel` that was asked with ``include_candidates=True``.
        exclude_args: see `group_steps`.

    Returns:
        The message, or one made of another candidate, with the groups under ``response_metadata["nad"]["steps"]``.

    Raises:
        ConfigurationError: the message does not come with candidates.
    """
    evidence = dict(message.response_metadata.get("nad") or {})
    if "candidates" not in evidence:
        msg = "choosing a step needs the candidates of an NADChatModel; give the agent one as its model"
        raise ConfigurationError(msg)
    # a dropped candidate broke off in the middle of its step
    whole = [c for c in evidence.pop("candidates") if c["finish_reason"] != "pruned"]
    answers = [AIMessage(**c["message"]) for c in whole]
    agreement = [c["agreement"] or 0.0 for c in whole]
    doubts = [_doubt(c) for c in whole]

    def standing(group: list[int]) -> tuple[bool, bool, float, int]:
        broken, rejected = bool(answers[group[0]].invalid_tool_calls), all(doubts[i] == _REJECTED for i in group)
        return (not broken, not rejected, sum(agreement[i] for i in group), -min(whole[i]["rank"] for i in group))

    groups = sorted(group_steps(answers, exclude_args), key=standing, reverse=True)
    winner = min(groups[0], key=lambda i: (doubts[i], whole[i]["rank"]))
    evidence["steps"] = [
        {
            "candidates": [whole[i]["index"] for i in group],
            "calls": [{"name": c["name"], "args": c["args"]} for c in answers[group[0]].tool_calls],
            "agreement": sum(agreement[i] for i in group),
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
            # a model with output_version="v1" gives blocks
            "content": chosen.content_blocks if isinstance(message.content, list) else chosen.content,
            "response_metadata": {**message.response_metadata, "nad": evidence, "finish_reason": reason},
            "usage_metadata": message.usage_metadata,
            "id": message.id,
            "name": message.name,
        }
    )


def unstreamed(model: NADChatModel, options: Mapping[str, Any]) -> NADChatModel:
    """The model with its tokens kept from those who watch a graph, where another candidate may yet be chosen.

    Args:
        model: asked for the candidates.
        options: arguments of the call.
    """
    config = model.settings().config
    decided = options.get("pruning", config.pruning) != "never" and options.get("keep", config.keep) == 1
    return model if decided else model.model_copy(update={"tags": [*(model.tags or ()), _NOT_STREAMED]})


_REJECTED = 2


def _doubt(candidate: dict[str, Any]) -> int:
    """0 for a candidate that a verifier passed, 1 for one that nobody checked, 2 for one that was rejected."""
    verdict = candidate.get("verdict")
    return 1 if verdict is None else 0 if verdict["passed"] else _REJECTED


def nad_step_node(
    model: NADChatModel,
    tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool] = (),
    *,
    n: int | None = None,
    exclude_args: Collection[str] = (),
    system_prompt: str | SystemMessage | None = None,
    messages_key: str = "messages",
    **options: Any,
) -> Runnable[dict[str, Any], dict[str, list[AIMessage]]]:
    """A node for a LangGraph graph of one's own: one step of an agent, chosen as `choose_step` says.

    Args:
        model: asked for the candidates.
        tools: on offer; run them with a `langgraph.prebuilt.ToolNode`.
        n: candidates per step; None leaves it to the model.
        exclude_args: arguments that make no difference between two calls.
        system_prompt: put before the messages, and kept out of the state.
        messages_key: where the state has its messages.
        **options: further arguments of each call, such as `tool_choice`.

    Returns:
        A node that adds one message; it works with and without an event loop.

    Raises:
        ConfigurationError: the model is no NADChatModel, or see `NADChatModel.bind_tools`.
    """
    if not isinstance(model, NADChatModel):
        msg = f"model={type(model).__name__} gives no candidates to choose from; give an NADChatModel"
        raise ConfigurationError(msg)
    options = {"include_candidates": True, **({} if n is None else {"n": n}), **options}
    hidden = unstreamed(model, options)
    asked = hidden.bind_tools(tools, **options) if tools else hidden.bind(**options)
    prompt = SystemMessage(system_prompt) if isinstance(system_prompt, str) else system_prompt
    system = [] if prompt is None else [prompt]

    def conversation(state: dict[str, Any]) -> LanguageModelInput:
        messages: list[BaseMessage] = [*system, *state[messages_key]]
        return messages

    def chosen(message: AIMessage) -> dict[str, list[AIMessage]]:
        return {messages_key: [choose_step(message, exclude_args)]}

    def step(state: dict[str, Any], config: RunnableConfig) -> dict[str, list[AIMessage]]:
        return chosen(asked.invoke(conversation(state), config))

    async def astep(state: dict[str, Any], config: RunnableConfig) -> dict[str, list[AIMessage]]:
        return chosen(await asked.ainvoke(conversation(state), config))

    return RunnableLambda(step, afunc=astep, name="nad_step")
