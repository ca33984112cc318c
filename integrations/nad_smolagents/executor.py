"""Run the code of a smolagents agent in a sandbox session, with an interpreter that keeps the agent's variables."""

from __future__ import annotations

import json
import re
import time
from importlib import resources

from nad_sandbox import SandboxSession, SandboxUnavailableError
from smolagents.local_python_executor import CodeOutput
from smolagents.monitoring import AgentLogger, LogLevel
from smolagents.remote_executors import RemotePythonExecutor
from smolagents.tools import Tool, get_tools_definition_code
from smolagents.utils import AgentExecutionError

__all__ = ["NADPythonExecutor"]

_PROGRAM = "/tmp/.nad/interpreter.py"
_SOCKET = "/tmp/.nad/interpreter.sock"
_ANSWER = "/tmp/.nad/answer.json"
_GRACE_SECONDS = 5.0
_START_SECONDS = 20.0
_IMPORT = re.compile(r"^import (\w+)$", re.MULTILINE)


class NADPythonExecutor(RemotePythonExecutor):
    """Executes an agent's Python in a sandbox of this machine: `CodeAgent(executor=NADPythonExecutor(session), ...)`.

    Variables, functions and imports persist from step to step, as do files. Tools run inside the sandbox too, so those
    that need the network or packages of yours do not work there. Values cross the border as JSON, never as pickles.

    Args:
        session: An open session with ``background=True``, which the caller closes.
        timeout: Seconds that one step's code may take.
        logger: Where smolagents logs; default: errors only.

    Raises:
        ValueError: The session ends background processes, and the interpreter is one; or `timeout` is not positive.
        nad_sandbox.SandboxError: The session cannot be used.
    """

    def __init__(self, session: SandboxSession, *, timeout: float = 60.0, logger: AgentLogger | None = None) -> None:
        super().__init__([], logger or AgentLogger(level=LogLevel.ERROR), allow_pickle=False)
        if not session.background:
            raise ValueError("the interpreter lives in the background: open the session with background=True")
        if not timeout > 0:
            raise ValueError(f"timeout is {timeout}: it must be a positive number of seconds")
        self.session = session
        self.timeout = timeout
        source = resources.files("nad_smolagents").joinpath("interpreter.py").read_bytes()
        session.upload(_PROGRAM, source)
        self._start()

    def run_code_raise_errors(self, code: str) -> CodeOutput:
        """Run code, and return what it printed, the value of its last expression, and whether that is the final answer.

        Args:
            code: The code of one step.

        Raises:
            AgentExecutionError: The code raised, ran out of time or memory, or ended the interpreter; the message has
                what was printed before, and the traceback.
            nad_sandbox.SandboxError: The session is closed or has broken.
        """
        command = ["python3", _PROGRAM, "run", _SOCKET, str(self.timeout), _ANSWER]
        result = self.session.execute(command, stdin=code, timeout=self.timeout + _GRACE_SECONDS)
        if not result.ok:
            self._start()
            reason = "did not stop when its time was over" if result.timed_out else "ended the interpreter"
            raise AgentExecutionError(f"The code {reason}; all variables are lost.", self.logger)
        answer = json.loads(self.session.download(_ANSWER))
        if answer["error"] is not None:
            raise AgentExecutionError(f"{answer['logs']}{answer['error']}", self.logger)
        if answer["final"] is not None:
            return CodeOutput(self._deserialize_final_answer(answer["final"]), answer["logs"], True)
        return CodeOutput(answer["output"], answer["logs"], False)

    def send_tools(self, tools: dict[str, Tool]) -> None:
        """Define the agent's tools in the interpreter; nothing is installed for them, since there is no network.

        Packages that a tool imports only in some cases, as the one for final answers does, may be missing.

        Args:
            tools: The tools by name.

        Raises:
            AgentExecutionError: The code of a tool cannot be run in the sandbox.
            nad_sandbox.SandboxError: The session is closed or has broken.
        """
        if "final_answer" in tools:
            self._patch_final_answer_with_exception(tools["final_answer"])
        # smolagents repeats the imports of a tool's functions above them
        code = _IMPORT.sub(r"try:\n    import \1\nexcept ImportError:\n    pass", get_tools_definition_code(tools))
        self.run_code_raise_errors(code)

    def cleanup(self) -> None:
        """End the interpreter; the session stays open."""
        self._kill()

    def _start(self) -> None:
        """Start an interpreter, in place of one that runs."""
        self._kill()
        self.session.execute(
            f"rm -f {_SOCKET}; python3 {_PROGRAM} serve {_SOCKET} >/dev/null 2>&1 & echo $! >{_SOCKET}.pid"
        )
        end = time.monotonic() + _START_SECONDS
        while not self.session.execute(["test", "-S", _SOCKET]).ok:
            if time.monotonic() > end:
                raise SandboxUnavailableError("the interpreter of the sandbox did not start")
            time.sleep(0.02)

    def _kill(self) -> None:
        self.session.execute(f"test ! -e {_SOCKET}.pid || kill -9 $(cat {_SOCKET}.pid)")
