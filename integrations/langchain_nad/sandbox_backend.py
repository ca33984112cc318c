"""A sandbox session as the backend of a deep agent, which writes, runs and mends programs in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepagents.backends import CompositeBackend
from deepagents.backends.protocol import (
    FILE_NOT_FOUND,
    INVALID_PATH,
    IS_DIRECTORY,
    PERMISSION_DENIED,
    ExecuteResponse,
    FileDownloadResponse,
    FileUploadResponse,
)
from deepagents.backends.sandbox import BaseSandbox

if TYPE_CHECKING:
    from nad_sandbox import ExecResult, SandboxSession

__all__ = ["NADSandbox"]

_ARTIFACTS = "/tmp/.deepagents"
# what a shell's `timeout` and the kernel's killer report
_TIMED_OUT = 124
_KILLED = 137


class NADSandbox(BaseSandbox):
    """A sandbox of this machine as a deepagents backend: the agent's tools for files and commands work inside it.

    The session's files and, if it was opened with ``background=True``, its processes persist from step to step, until
    the session is closed. Agents that must not see each other's files need a session each.

    Example:
        .. code-block:: python

            from deepagents import create_deep_agent
            from langchain_nad import NADChatModel, NADSandbox
            from nad_sandbox import auto_sandbox

            with auto_sandbox() as sandbox, sandbox.open_session() as session:
                backend = NADSandbox(session)
                agent = create_deep_agent(
                    NADChatModel(n=16), backend=backend.agent_backend, system_prompt=backend.system_prompt
                )
                backend.execute("python3 -c 'print(6 * 7)'")

    Args:
        session: An open session, which the caller closes.
    """

    def __init__(self, session: SandboxSession) -> None:
        self.session = session

    @property
    def id(self) -> str:
        """Name of the session."""
        return self.session.id

    @property
    def agent_backend(self) -> CompositeBackend:
        """This sandbox as `create_deep_agent` should get it.

        What deepagents itself keeps, such as long results of tools and earlier messages, goes below ``/tmp`` too. By
        default it goes to the root of the file system, where nothing can be written.
        """
        return CompositeBackend(default=self, routes={}, artifacts_root=_ARTIFACTS)

    @property
    def system_prompt(self) -> str:
        """What an agent has to know about its sandbox, for its system prompt."""
        limits = self.session.limits
        return (
            f"You work in a sandbox with a POSIX shell and `python3`. Its working folder is {self.session.workdir}: "
            "write your files there, and name them by their absolute paths. Outside /tmp nothing can be written. There "
            "is no network, and nothing can be installed. Files below /tmp cannot be executed themselves: run "
            f"`python3 FILE` or `sh FILE`. A command may take {limits.timeout:g} seconds."
        )

    def execute(self, command: str, *, timeout: int | None = None) -> ExecuteResponse:
        """Run a shell command in the working folder.

        Args:
            command: The command.
            timeout: Limit in seconds; None or 0: the session's.

        Returns:
            What the command wrote to both outputs, in order. Its status is 124 if the time limit ended it.

        Raises:
            nad_sandbox.SandboxError: The session is closed or has broken.
        """
        return _response(self.session.execute(command, timeout=timeout or None, merge_output=True))

    async def aexecute(self, command: str, *, timeout: int | None = None) -> ExecuteResponse:
        """Do what `execute` does without blocking the event loop; cancelling the task kills the command."""
        return _response(await self.session.aexecute(command, timeout=timeout or None, merge_output=True))

    def upload_files(self, files: list[tuple[str, bytes]]) -> list[FileUploadResponse]:
        """Write files; each has a response that says whether it was written."""
        responses = []
        for path, content in files:
            try:
                self.session.upload(_absolute(path), content)
                responses.append(FileUploadResponse(path=path))
            except (OSError, ValueError) as error:
                responses.append(FileUploadResponse(path=path, error=_code(error)))
        return responses

    async def aupload_files(self, files: list[tuple[str, bytes]]) -> list[FileUploadResponse]:
        """Do what `upload_files` does without blocking the event loop."""
        responses = []
        for path, content in files:
            try:
                await self.session.aupload(_absolute(path), content)
                responses.append(FileUploadResponse(path=path))
            except (OSError, ValueError) as error:
                responses.append(FileUploadResponse(path=path, error=_code(error)))
        return responses

    def download_files(self, paths: list[str]) -> list[FileDownloadResponse]:
        """Read files; each has a response with its content, or with what went wrong."""
        responses = []
        for path in paths:
            try:
                responses.append(FileDownloadResponse(path=path, content=self.session.download(_absolute(path))))
            except (OSError, ValueError) as error:
                responses.append(FileDownloadResponse(path=path, error=_code(error)))
        return responses

    async def adownload_files(self, paths: list[str]) -> list[FileDownloadResponse]:
        """Do what `download_files` does without blocking the event loop."""
        responses = []
        for path in paths:
            try:
                content = await self.session.adownload(_absolute(path))
                responses.append(FileDownloadResponse(path=path, content=content))
            except (OSError, ValueError) as error:
                responses.append(FileDownloadResponse(path=path, error=_code(error)))
        return responses


def _absolute(path: str) -> str:
    """Return the path.

    Raises:
        ValueError: It is relative, which the protocol calls invalid.
    """
    if not path.startswith("/"):
        raise ValueError(f"{path!r} is no absolute path")
    return path


def _code(error: OSError | ValueError) -> str:
    """Return the protocol's name of an error, or its text if the protocol has no name for it."""
    for kind, code in (
        (FileNotFoundError, FILE_NOT_FOUND),
        (IsADirectoryError, IS_DIRECTORY),
        (PermissionError, PERMISSION_DENIED),
        ((ValueError, NotADirectoryError, FileExistsError), INVALID_PATH),
    ):
        if isinstance(error, kind):
            return code
    return str(error)


def _response(result: ExecResult) -> ExecuteResponse:
    code, output = result.returncode, result.stdout + result.stderr
    if result.timed_out:
        code, note = _TIMED_OUT, f"The time limit ended the command after {result.duration:.0f} s."
    elif result.oom_killed:
        code, note = _KILLED, "The memory limit ended the command."
    else:
        note = ""
    output = "\n".join(part for part in (output.rstrip("\n"), note) if part) if note else output
    return ExecuteResponse(output=output, exit_code=code, truncated=result.output_truncated)
