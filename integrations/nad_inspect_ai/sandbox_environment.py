"""A sandbox session for each sample of an Inspect evaluation."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path
from typing import Any, Literal, overload

from inspect_ai.util import (
    ExecResult,
    OutputLimitExceededError,
    SandboxEnvironment,
    SandboxEnvironmentConfigType,
    SandboxEnvironmentLimits,
    SandboxUnavailableError,
    SandboxUserUnsupportedError,
    sandboxenv,
)
from nad_sandbox import BubblewrapSandbox, DockerSandbox, Limits, SandboxError, SandboxSession, auto_sandbox
from nad_sandbox.session import SESSION_LIMITS
from pydantic import BaseModel, ConfigDict, Field

__all__ = ["NADSandboxConfig", "NADSandboxEnvironment"]

_CANNOT_EXECUTE = 126
_OUTPUT_BYTES = 10 * 2**20


class NADSandboxConfig(BaseModel, frozen=True):
    """What a task can say about its sandbox: ``SandboxEnvironmentSpec("nad", NADSandboxConfig(backend="docker"))``.

    In place of a config, the name of a backend will do: ``sandbox=("nad", "bubblewrap")``.
    """

    model_config = ConfigDict(extra="forbid")

    backend: Literal["auto", "docker", "bubblewrap"] = Field(
        default="auto", description="The backend; auto takes Docker where an engine answers, else bubblewrap."
    )
    image: str | None = Field(default=None, description="A local Docker image with Python; default: the project's own.")
    memory_mb: int = Field(default=SESSION_LIMITS.memory_mb, gt=0, description="MiB of memory of a sample's sandbox.")
    cpus: float = Field(default=SESSION_LIMITS.cpus, gt=0, description="CPU cores of a sample's sandbox.")
    tmpfs_mb: int = Field(default=SESSION_LIMITS.tmpfs_mb, gt=0, description="MiB of files of a sample's sandbox.")
    timeout: float = Field(default=600.0, gt=0, description="Seconds for a command that is run without a limit.")

    def open_sandbox(self) -> DockerSandbox | BubblewrapSandbox:
        """Return the backend.

        Raises:
            nad_sandbox.SandboxUnavailableError: It does not work here; the message says what to do.
        """
        if self.image is None:
            return auto_sandbox(self.backend, prestart=0)
        return DockerSandbox(self.image, prestart=0)

    def limits(self) -> Limits:
        """Return the limits of a sample's session."""
        return Limits(
            timeout=self.timeout,
            memory_mb=self.memory_mb,
            cpus=self.cpus,
            pids=SESSION_LIMITS.pids,
            nofile=SESSION_LIMITS.nofile,
            fsize_mb=self.tmpfs_mb,
            tmpfs_mb=self.tmpfs_mb,
            output_bytes=_OUTPUT_BYTES,
        )


@sandboxenv(name="nad")
class NADSandboxEnvironment(SandboxEnvironment):
    """A sandbox of this machine for one sample: no network, no privileges, files and processes until the sample ends.

    Commands have one unprivileged user, so tools that Inspect installs in the sandbox as root do not work; `bash`,
    `python` and what else runs commands does.

    Args:
        sandbox: The backend, closed with the environment.
        session: A session of it.
    """

    def __init__(self, sandbox: DockerSandbox | BubblewrapSandbox, session: SandboxSession) -> None:
        super().__init__()
        self.sandbox = sandbox
        self.session = session

    @classmethod
    async def task_init(cls, task_name: str, config: SandboxEnvironmentConfigType | None) -> None:  # noqa: ARG003
        """Find out, before any sample starts, whether there is a sandbox; an image that is missing is built here.

        Raises:
            nad_sandbox.SandboxUnavailableError: No sandbox can be started.
            pydantic.ValidationError: The config is not valid.
        """
        sandbox = await asyncio.to_thread(_config_of(config).open_sandbox)
        await asyncio.to_thread(sandbox.close)

    @classmethod
    async def sample_init(
        cls,
        task_name: str,  # noqa: ARG003
        config: SandboxEnvironmentConfigType | None,
        metadata: dict[str, str],  # noqa: ARG003
    ) -> dict[str, SandboxEnvironment]:
        """Open a session for a sample.

        Raises:
            nad_sandbox.SandboxUnavailableError: No sandbox can be started.
            pydantic.ValidationError: The config is not valid.
        """
        chosen = _config_of(config)
        sandbox = await asyncio.to_thread(chosen.open_sandbox)
        try:
            return {"default": cls(sandbox, await sandbox.aopen_session(limits=chosen.limits(), background=True))}
        except BaseException:
            sandbox.close()
            raise

    @classmethod
    async def sample_cleanup(
        cls,
        task_name: str,  # noqa: ARG003
        config: SandboxEnvironmentConfigType | None,  # noqa: ARG003
        environments: dict[str, SandboxEnvironment],
        interrupted: bool,  # noqa: ARG003
    ) -> None:
        """Remove the sandboxes of a sample with all their files."""
        for environment in environments.values():
            await asyncio.to_thread(environment.as_type(cls).sandbox.close)

    @classmethod
    def config_deserialize(cls, config: dict[str, Any]) -> NADSandboxConfig:
        """Return the config that a log holds as a dictionary."""
        return NADSandboxConfig.model_validate(config)

    async def exec(
        self,
        cmd: list[str],
        input: str | bytes | None = None,  # noqa: A002 - Inspect's name
        cwd: str | None = None,
        env: dict[str, str] | None = None,
        user: str | None = None,
        timeout: int | None = None,
        timeout_retry: bool = True,  # noqa: ARG002 - a command that was killed is not run again
        concurrency: bool = True,  # noqa: ARG002 - a session runs one command at a time
    ) -> ExecResult[str]:
        """Run a command in the sample's working folder; see `SandboxEnvironment.exec`."""
        if user is not None:
            raise SandboxUserUnsupportedError(f"commands of this sandbox have one user, and none is {user!r}")
        try:
            result = await self.session.aexecute(cmd, stdin=input or b"", cwd=cwd or ".", env=env, timeout=timeout)
        except SandboxError as error:
            raise SandboxUnavailableError(str(error)) from error
        if result.timed_out:
            raise TimeoutError(f"the command was killed after {result.duration:.1f} s")
        if result.returncode == _CANNOT_EXECUTE and result.stderr.endswith("cannot be executed: Permission denied\n"):
            raise PermissionError(errno.EACCES, result.stderr.strip())
        code = 1 if result.returncode is None else result.returncode
        return ExecResult(code == 0, code, result.stdout, result.stderr)

    async def write_file(self, file: str, contents: str | bytes) -> None:
        """Write a file; see `SandboxEnvironment.write_file`."""
        await self.session.aupload(file, contents.encode() if isinstance(contents, str) else contents)

    @overload
    async def read_file(self, file: str, text: Literal[True] = True) -> str: ...

    @overload
    async def read_file(self, file: str, text: Literal[False]) -> bytes: ...

    async def read_file(self, file: str, text: bool = True) -> str | bytes:
        """Read a file; see `SandboxEnvironment.read_file`."""
        try:
            content = await self.session.adownload(file, max_bytes=SandboxEnvironmentLimits.MAX_READ_FILE_SIZE)
        except OSError as error:
            if error.errno != errno.EFBIG:
                raise
            raise OutputLimitExceededError(SandboxEnvironmentLimits.MAX_READ_FILE_SIZE_STR, None) from error
        return content.decode() if text else content


def _config_of(config: Any) -> NADSandboxConfig:
    """Return the config of a task, which may give the name of a backend or nothing instead."""
    if isinstance(config, NADSandboxConfig):
        return config
    # Inspect takes text for the name of a file, and puts the task's folder in front
    return NADSandboxConfig() if config is None else NADSandboxConfig.model_validate({"backend": Path(config).name})
