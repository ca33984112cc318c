"""Code in a sandbox: `SandboxVerifier` checks the code of answers, and `PythonSandboxTool` runs an agent's programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.tools import BaseTool
from pydantic import BaseModel, Field, SkipValidation

from langchain_nad.errors import CodeRejectedError
from nad_agents.exceptions import ConfigurationError

if TYPE_CHECKING:
    from nad_sandbox import CodeVerifier, ExecResult, Sandbox
    from nad_sandbox.checks.verifier import Check

__all__ = ["PythonSandboxTool", "SandboxVerifier"]

OnFailure = Literal["error", "annotate"]


class SandboxVerifier(Runnable[BaseMessage | str, BaseMessage | str]):
    """A step of a chain that runs the code of an answer in a sandbox, and lets the answer pass only if its code does.

    A message that passes carries the report under ``response_metadata["sandbox"]``; text passes as it is. In
    ``prompt | chat | SandboxVerifier(tests=...) | next`` the next step sees checked code only.

    Args:
        sandbox: The sandbox to run code in; a `nad_sandbox.AutoSandbox` when left out, started at the first use.
        tests: Python source that the code must pass.
        checks: Any of "syntax", "imports" and "examples", which are those in `prompt`.
        io_pairs: (input, output) pairs for a program that reads standard input.
        entry_point: Name of the function that tests which define ``check(candidate)`` are called with.
        prompt: The prompt that the model answered; examples in it are checked.
        timeout: Seconds for all checks of an answer; the sandbox's own limit when left out.
        on_failure: "error" raises CodeRejectedError, which `with_fallbacks` and `with_retry` can catch; "annotate"
            lets the message pass with the report.

    Raises:
        ConfigurationError: A check is unknown, the tests do not compile, or on_failure is unknown.
    """

    def __init__(
        self,
        sandbox: Sandbox | None = None,
        *,
        tests: str | None = None,
        checks: Sequence[Check] = ("syntax", "imports", "examples"),
        io_pairs: Sequence[tuple[str, str]] = (),
        entry_point: str | None = None,
        prompt: str = "",
        timeout: float | None = None,
        on_failure: OnFailure = "error",
    ) -> None:
        from nad_sandbox import AutoSandbox, CodeVerifier

        if on_failure not in {"error", "annotate"}:
            msg = f"on_failure={on_failure!r} is unknown; choose 'error' or 'annotate'"
            raise ConfigurationError(msg)
        self.prompt = prompt
        self.on_failure = on_failure
        self._own_sandbox = None if sandbox is not None else AutoSandbox()
        try:
            self.verifier: CodeVerifier = CodeVerifier(
                sandbox if sandbox is not None else self._own_sandbox,  # type: ignore[arg-type] # one of them is a sandbox
                checks=checks,
                tests=tests,
                io_pairs=io_pairs,
                entry_point=entry_point,
                timeout=timeout,
            )
        except ValueError as error:
            raise ConfigurationError(str(error)) from error

    def invoke(
        self,
        input: BaseMessage | str,  # noqa: A002 - the name of every Runnable's input
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> BaseMessage | str:
        """Check one answer and return it.

        Args:
            input: A message or text.
            config: LangChain's config of the call.
            **kwargs: Further arguments of `Runnable.invoke`.

        Raises:
            CodeRejectedError: The code fails and `on_failure` is "error".
            nad_sandbox.SandboxError: The sandbox failed, so that nothing is known of the code.
        """
        return self._call_with_config(self._check, input, config, run_type="tool", **kwargs)

    def close(self) -> None:
        """Close the sandbox if this object made it; may be called twice."""
        if self._own_sandbox is not None:
            self._own_sandbox.close()

    def _check(self, answer: BaseMessage | str) -> BaseMessage | str:
        text = answer if isinstance(answer, str) else str(answer.text)
        report = self.verifier.verify(text, prompt=self.prompt)
        if not report.passed and self.on_failure == "error":
            raise CodeRejectedError(report.to_dict(), report.feedback)
        if isinstance(answer, str):
            return answer
        metadata = {**getattr(answer, "response_metadata", {}), "sandbox": report.to_dict()}
        return answer.model_copy(update={"response_metadata": metadata})


class _PythonInput(BaseModel):
    code: str = Field(description="a complete Python program; what it prints is the result")


class PythonSandboxTool(BaseTool):
    """A tool that runs each Python program in a fresh sandbox and returns what the program printed.

    Example:
        .. code-block:: python

            from langchain.agents import create_agent
            from langchain_nad import NADChatModel, PythonSandboxTool
            from nad_sandbox import auto_sandbox

            with auto_sandbox() as sandbox:
                agent = create_agent(NADChatModel(n=16), [PythonSandboxTool(sandbox=sandbox)])
                agent.invoke({"messages": [("user", "What is 2 to the power of 100?")]})
    """

    name: str = "python"
    description: str = "Run a Python program in a sandbox without network and read what it prints."
    args_schema: type[BaseModel] = _PythonInput
    sandbox: SkipValidation[Any] = Field(exclude=True, description="A `nad_sandbox.Sandbox`.")
    seconds: float | None = Field(
        default=None, description="Time limit of a program in seconds; None takes the sandbox's own."
    )

    def _run(self, code: str) -> str:
        return _describe(self.sandbox.run_python(code, timeout=self.seconds))

    async def _arun(self, code: str) -> str:
        return _describe(await self.sandbox.arun_python(code, timeout=self.seconds))


def _describe(result: ExecResult) -> str:
    """Describe for the model, as text, what a program did."""
    parts = [result.stdout.rstrip()]
    if result.stderr.strip():
        parts.append(result.stderr.strip())
    if result.timed_out:
        parts.append("The time limit ended the program.")
    elif result.oom_killed:
        parts.append("The memory limit ended the program.")
    elif result.returncode:
        parts.append(f"The program ended with status {result.returncode}.")
    return "\n".join(part for part in parts if part) or "The program printed nothing."
