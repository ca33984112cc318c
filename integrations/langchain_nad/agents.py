"""Each step of an agent a selection among N next steps, with candidates that do the same counted together."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any

from langchain.agents.middleware import AgentMiddleware, ModelRequest, ModelResponse
from langchain_core.messages import AIMessage

from langchain_nad.tool_calls import ParsedAnswer, parse_answer
from nad_agents.exceptions import ConfigurationError

__all__ = ["NADStepSelection", "group_steps"]


def group_steps(answers: Sequence[ParsedAnswer], exclude_args: Collection[str] = ()) -> list[list[int]]:
    """Candidates that make the same calls with the same arguments, together; those that make none are one group.

    Args:
        answers: the candidates, taken apart.
        exclude_args: arguments that make no difference, such as a reason given in words.

    Returns:
        Candidate indices by group, in order of first appearance. A broken call is alone.
    """
    groups: dict[str, list[int]] = {}
    for i, answer in enumerate(answers):
        calls = [
            (call["name"], {name: value for name, value in call["args"].items() if name not in exclude_args})
            for call in answer.calls
        ]
        key = f"broken {i}" if answer.invalid else json.dumps(calls, sort_keys=True, ensure_ascii=False)
        groups.setdefault(key, []).append(i)
    return list(groups.values())


class NADStepSelection(AgentMiddleware[Any, Any, Any]):
    """Chooses an agent's next step among N by what the candidates do, and by how much their neurons agree.

    The candidates of one step come from one call of an `NADChatModel`. Those that make the same calls form a group;
    a group's score is the sum of its members' agreement (mean similarity of activated neurons to all the other
    candidates), so that many candidates which agree win. Within the group the selector's ranking decides. Groups of
    broken calls come last.

    Args:
        n: candidates per step; None leaves it to the model.
        exclude_args: arguments that make no difference between two calls.
    """

    def __init__(self, n: int | None = None, *, exclude_args: Collection[str] = ()) -> None:
        super().__init__()
        self.n = n
        self.exclude_args = frozenset(exclude_args)

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any]:
        """Ask for the candidates, and put the chosen one in the answer's place."""
        return self._choose(request, handler(self._with_candidates(request)))

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
    ) -> ModelResponse[Any]:
        """`wrap_model_call` without blocking the event loop."""
        return self._choose(request, await handler(self._with_candidates(request)))

    def _with_candidates(self, request: ModelRequest[Any]) -> ModelRequest[Any]:
        settings = {**request.model_settings, "include_candidates": True}
        if self.n is not None:
            settings["n"] = self.n
        return request.override(model_settings=settings)

    def _choose(self, request: ModelRequest[Any], response: ModelResponse[Any]) -> ModelResponse[Any]:
        may_call = request.tools and request.tool_choice not in ("none", False)
        names = [t["function"]["name"] if isinstance(t, dict) else t.name for t in request.tools] if may_call else []
        result = [self._chosen(m, names) if isinstance(m, AIMessage) else m for m in response.result]
        return ModelResponse(result=result, structured_response=response.structured_response)

    def _chosen(self, message: AIMessage, names: Sequence[str]) -> AIMessage:
        evidence = message.response_metadata.get("nad")
        if evidence is None:
            msg = "NADStepSelection needs the candidates of an NADChatModel; give create_agent one as its model"
            raise ConfigurationError(msg)
        candidates = evidence.pop("candidates")
        # a dropped candidate broke off in the middle of its step
        whole = [c for c in candidates if c["finish_reason"] != "pruned"]
        answers = [parse_answer(c["text"], names) if names else ParsedAnswer(c["text"]) for c in whole]
        groups = group_steps(answers, self.exclude_args)
        agreement = [c["agreement"] or 0.0 for c in whole]

        def standing(group: list[int]) -> tuple[bool, float, int]:
            broken = bool(answers[group[0]].invalid)
            return (not broken, sum(agreement[i] for i in group), -min(whole[i]["rank"] for i in group))

        best = max(groups, key=standing)
        winner = min(best, key=lambda i: whole[i]["rank"])
        steps = [
            {
                "candidates": [whole[i]["index"] for i in group],
                "calls": [{"name": c["name"], "args": c["args"]} for c in answers[group[0]].calls],
                "agreement": sum(agreement[i] for i in group),
            }
            for group in sorted(groups, key=standing, reverse=True)
        ]
        chosen = {**evidence, "winner": whole[winner]["index"], "steps": steps}
        if chosen["winner"] == evidence["winner"]:
            return message.model_copy(update={"response_metadata": {**message.response_metadata, "nad": chosen}})
        reason = "tool_calls" if answers[winner].calls else whole[winner]["finish_reason"]
        return AIMessage(
            content=answers[winner].content,
            tool_calls=list(answers[winner].calls),
            invalid_tool_calls=list(answers[winner].invalid),
            response_metadata={**message.response_metadata, "nad": chosen, "finish_reason": reason},
            usage_metadata=message.usage_metadata,
            id=message.id,
            name=message.name,
        )
