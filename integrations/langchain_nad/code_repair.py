"""`CodeRepair`: agent middleware that has the model repair code which fails its checks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from langchain.agents.middleware import AgentMiddleware, ModelRequest, ModelResponse
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langchain_core.runnables import run_in_executor

from nad_agents.exceptions import ConfigurationError
from nad_agents.verification import Verdict, Verifier

__all__ = ["CodeRepair"]


class CodeRepair(AgentMiddleware[Any, Any, Any]):
    """Agent middleware that checks the code in the model's message and has the model repair it when it fails.

    The report of a failure goes back to the model in a message that stays out of the agent's history. A message that
    calls tools or holds no code block is left alone. The last report is under ``response_metadata["sandbox"]``, with
    the number of ``repairs`` in it, whether the code passed in the end or not.

    Args:
        verifier: A sandbox, a `nad_sandbox.CodeVerifier`, or any other verifier.
        max_repairs: Number of times that the model may try again.

    Raises:
        ConfigurationError: The verifier is none, or max_repairs is negative.
    """

    def __init__(self, verifier: Verifier, *, max_repairs: int = 2) -> None:
        super().__init__()
        if not isinstance(verifier, Verifier):
            msg = f"verifier={verifier!r} has no methods verify and fingerprint; give a sandbox or a CodeVerifier"
            raise ConfigurationError(msg)
        if max_repairs < 0:
            msg = f"max_repairs={max_repairs} must be 0 or more"
            raise ConfigurationError(msg)
        self.verifier = verifier
        self.max_repairs = max_repairs

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any]:
        """Call the model until its code passes or the repairs are used up.

        Args:
            request: The agent's request.
            handler: Calls the model.
        """
        repair_request, response = request, handler(request)
        verdict: Verdict | None = None
        for repairs in range(self.max_repairs + 1):
            message = _code_message(response)
            if message is None:
                return _without_code(response, verdict, repairs)
            verdict = self._judge(request, message)
            if verdict.passed or repairs == self.max_repairs:
                return _with_report(response, message, verdict, repairs)
            repair_request = _repair_request(repair_request, message, verdict)
            response = handler(repair_request)
        return response

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
    ) -> ModelResponse[Any]:
        """Do what `wrap_model_call` does without blocking the event loop."""
        repair_request, response = request, await handler(request)
        verdict: Verdict | None = None
        for repairs in range(self.max_repairs + 1):
            message = _code_message(response)
            if message is None:
                return _without_code(response, verdict, repairs)
            verdict = await run_in_executor(None, self._judge, request, message)
            if verdict.passed or repairs == self.max_repairs:
                return _with_report(response, message, verdict, repairs)
            repair_request = _repair_request(repair_request, message, verdict)
            response = await handler(repair_request)
        return response

    def _judge(self, request: ModelRequest[Any], message: AIMessage) -> Verdict:
        task = next((m for m in reversed(request.messages) if isinstance(m, HumanMessage)), None)
        return self.verifier.verify(str(message.text), prompt="" if task is None else str(task.text))


def _code_message(response: ModelResponse[Any]) -> AIMessage | None:
    """Return the message whose code is to be checked; None where there is no code, or tools are called."""
    last = next((m for m in reversed(response.result) if isinstance(m, AIMessage)), None)
    return last if last is not None and not last.tool_calls and "```" in last.text else None


def _without_code(response: ModelResponse[Any], verdict: Verdict | None, repairs: int) -> ModelResponse[Any]:
    """Return a response without code; where a repair was asked for, with the report of the code that failed."""
    last = next((m for m in reversed(response.result) if isinstance(m, AIMessage)), None)
    if verdict is None or last is None or last.tool_calls:
        return response
    return _with_report(response, last, verdict, repairs)


def _repair_request(request: ModelRequest[Any], message: AIMessage, verdict: Verdict) -> ModelRequest[Any]:
    report = HumanMessage(f"This code fails:\n{verdict.feedback}\n\nWrite the whole corrected code.")
    messages: list[AnyMessage] = [*request.messages, message, report]
    return request.override(messages=messages)


def _with_report(
    response: ModelResponse[Any], message: AIMessage, verdict: Verdict, repairs: int
) -> ModelResponse[Any]:
    report = {**verdict.to_dict(), "repairs": repairs}
    checked = message.model_copy(update={"response_metadata": {**message.response_metadata, "sandbox": report}})
    result = [checked if m is message else m for m in response.result]
    return ModelResponse(result=result, structured_response=response.structured_response)
