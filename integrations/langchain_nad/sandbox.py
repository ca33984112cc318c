"""`SandboxVerifier`: a step of a chain that lets an answer pass only when its code does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable, RunnableConfig

from langchain_nad.errors import CodeRejectedError
from nad_agents.exceptions import ConfigurationError

if TYPE_CHECKING:
    from nad_sandbox import CodeVerifier, Sandbox
    from nad_sandbox.verifier import Check

__all__ = ["SandboxVerifier"]

OnFailure = Literal["error", "annotate"]


class SandboxVerifier(Runnable[BaseMessage | str, BaseMessage | str]):
    """Runs the code of an answer in a sandbox before the chain goes on.

    A message that passes goes on as it is, with the report under ``response_metadata["sandbox"]``; text goes on as
    text. In ``prompt | chat | SandboxVerifier(tests=...) | next`` the next step sees checked code only.

    Args:
        sandbox: where it runs; a `nad_sandbox.AutoSandbox` when left out, started at the first use.
        tests: Python source that the code must pass.
        checks: "syntax", "imports", "examples" (those of `prompt`).
        io_pairs: (input, output) pairs for a program that reads standard input.
        entry_point: called by tests that define ``check(candidate)``.
        prompt: what the model was asked; examples in it are checked.
        timeout: seconds for everything; the sandbox's own limit when left out.
        on_failure: "error" raises CodeRejectedError, which `with_fallbacks` and `with_retry` can catch; "annotate"
            lets the message pass with the report.

    Raises:
        ConfigurationError: a check is unknown, the tests do not compile, or text is to be annotated.
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
        self._own = None if sandbox is not None else AutoSandbox()
        try:
            self.verifier: CodeVerifier = CodeVerifier(
                sandbox if sandbox is not None else self._own,  # type: ignore[arg-type] # one of them is a sandbox
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
        """Check one answer.

        Raises:
            CodeRejectedError: the code fails and `on_failure` is "error".
            nad_sandbox.SandboxError: it could not be run; nothing is known of it.
        """
        return self._call_with_config(self._check, input, config, run_type="tool", **kwargs)

    def close(self) -> None:
        """Remove what the sandbox started, if this object made it; may be called twice."""
        if self._own is not None:
            self._own.close()

    def _check(self, answer: BaseMessage | str) -> BaseMessage | str:
        text = answer if isinstance(answer, str) else str(answer.text)
        report = self.verifier.verify(text, prompt=self.prompt)
        if not report.passed and self.on_failure == "error":
            raise CodeRejectedError(report.to_dict(), report.feedback)
        if isinstance(answer, str):
            return answer
        metadata = {**getattr(answer, "response_metadata", {}), "sandbox": report.to_dict()}
        return answer.model_copy(update={"response_metadata": metadata})
