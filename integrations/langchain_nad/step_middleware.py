"""`NADStepSelection`: agent middleware that chooses every step of an agent among N candidates."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import Any

from langchain.agents.middleware import AgentMiddleware, ModelRequest, ModelResponse
from langchain_core.messages import AIMessage, BaseMessage

from langchain_nad.chat_models import NADChatModel
from langchain_nad.step_selection import answered_calls, choose_step, hide_undecided_tokens

__all__ = ["NADStepSelection"]


class NADStepSelection(AgentMiddleware[Any, Any, Any]):
    """Agent middleware that chooses the next step by what the candidates do and by how much their neurons agree.

    The candidates of one step come from one call of an `NADChatModel`. Candidates that make the same calls form a
    group, and the group with the most agreement wins; see `choose_step`. A graph's stream of messages shows a step
    once it is chosen, and its tokens only where pruning leaves a single candidate to choose.

    Args:
        n: Candidates per step; None leaves the number to the model.
        exclude_args: Names of arguments that make no difference between two calls.
        demote_repeated: Whether steps that only make calls again which a tool has answered since the user's last
            message come after all others, so that an agent does not call in circles; False where the same call may
            bring something new.

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

    def __init__(
        self, n: int | None = None, *, exclude_args: Collection[str] = (), demote_repeated: bool = True
    ) -> None:
        super().__init__()
        self.n = n
        self.exclude_args = frozenset(exclude_args)
        self.demote_repeated = demote_repeated

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any]:
        """Call the model with candidates, and replace its message by the chosen step.

        Args:
            request: The agent's request.
            handler: Calls the model.

        Raises:
            ConfigurationError: The agent's model is no NADChatModel.
        """
        return self._choose(request, handler(self._with_candidates(request)))

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
    ) -> ModelResponse[Any]:
        """Do what `wrap_model_call` does without blocking the event loop."""
        return self._choose(request, await handler(self._with_candidates(request)))

    def _with_candidates(self, request: ModelRequest[Any]) -> ModelRequest[Any]:
        settings = {**request.model_settings, "include_candidates": True}
        if self.n is not None:
            settings["n"] = self.n
        model = request.model
        if isinstance(model, NADChatModel):
            model = hide_undecided_tokens(model, settings)
        return request.override(model=model, model_settings=settings)

    def _conversation(self, request: ModelRequest[Any]) -> list[BaseMessage]:
        system = [] if request.system_message is None else [request.system_message]
        return [*system, *request.messages]

    def _choose(self, request: ModelRequest[Any], response: ModelResponse[Any]) -> ModelResponse[Any]:
        answered = answered_calls(request.messages, self.exclude_args) if self.demote_repeated else frozenset()
        result = [
            choose_step(
                m, self.exclude_args, answered=answered, conversation=self._conversation(request), tools=request.tools
            )
            if isinstance(m, AIMessage)
            else m
            for m in response.result
        ]
        return ModelResponse(result=result, structured_response=response.structured_response)
