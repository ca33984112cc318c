"""A container, started ahead of time, that reads its program, or those of a session, from its standard input."""

from __future__ import annotations

import contextlib
import secrets
import selectors
import socket
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from docker.errors import DockerException
from requests.exceptions import RequestException

from nad_sandbox.backends.container_recipe import ContainerRecipe
from nad_sandbox.backends.docker_client import engine_errors
from nad_sandbox.backends.launcher import READY_SIZE, START_SECONDS, python_version
from nad_sandbox.base import ExecResult, SandboxFailureError, SandboxUnavailableError
from nad_sandbox.process.container_stream import FRAME_HEADER, STDERR_STREAM, ContainerStream
from nad_sandbox.process.supervisor import END_SECONDS, POLL_SECONDS
from nad_sandbox.program import Program, harness_name

if TYPE_CHECKING:
    import docker

__all__ = ["DockerContainer"]

_KILLED = 128 + 9

# how long to read what a killed container left in its pipes
_DRAIN_SECONDS = 1.0

# an engine that does not answer a kill within this time is broken
_KILL_SECONDS = 20.0


class DockerContainer:
    """A running container whose bootstrap program waits for the program that it will run, or for those of a session.

    Args:
        api: The engine's client, which threads share.
        recipe: How the container is made.
        volumes: Folders that the image declares as volumes; see `ContainerRecipe.create_request`.

    Raises:
        SandboxUnavailableError: The engine cannot be reached, or refuses this container.
    """

    def __init__(self, api: docker.APIClient, recipe: ContainerRecipe, volumes: list[str]) -> None:
        self._api = api
        self._limits = recipe.limits
        self._session = recipe.lifetime != "programs"
        self._stream: Any = None
        self._harnesses: set[str] = set()
        self.goes_on = False
        with engine_errors(recipe.image):
            self.id: str = api.create_container_from_config(recipe.create_request(volumes))["Id"]
        try:
            with engine_errors(recipe.image):
                # attaching before the start loses no output
                parameters = {"stream": 1, "stdin": 1, "stdout": 1, "stderr": 1}
                self._stream = api.attach_socket(self.id, params=parameters)
                self._socket: socket.socket = getattr(self._stream, "_sock", self._stream)
                self._socket.settimeout(START_SECONDS)
                api.start(self.id)
            self._python_version = self._await_ready()
        except BaseException:
            self.remove()
            raise

    def is_usable(self) -> bool:
        """Return whether the container still waits for its program, which is not so after a restart of the engine."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._socket, selectors.EVENT_READ)
            return not selector.select(0)  # readable: it wrote unasked, or has ended

    def run(self, program: Program, cancelled: threading.Event) -> ExecResult:
        """Run a program; the container cannot be used again afterwards unless `goes_on` is true.

        Args:
            program: Program to run.
            cancelled: Event that ends the program when set.

        Raises:
            SandboxFailureError: The engine broke.
        """
        mark = secrets.token_hex(16)
        self.goes_on = False
        harness = harness_name(program.harness) if program.harness else ""
        feed = program.feed(mark=mark, known=harness in self._harnesses)
        output_bytes = program.output_bytes or self._limits.output_bytes
        stream = ContainerStream(self._socket, feed, output_bytes, mark.encode())
        started = time.monotonic()
        returncode: int | None = None
        ended = timed_out = oom_killed = False
        try:
            with _runtime_errors():
                while not ended:
                    left = started + program.timeout - time.monotonic()
                    timed_out = left <= 0
                    if timed_out or cancelled.is_set():
                        break
                    ended = stream.turn(min(left, POLL_SECONDS))
                    # only the engine knows why a program was killed, and without a session it ends the container too
                    if stream.status is not None and (self._session or stream.status != _KILLED):
                        returncode, ended = stream.status, True
                        break
                duration = time.monotonic() - started
                if not ended and self._session:
                    ended = self._end_program(stream)
                elif ended and returncode is None:
                    returncode, oom_killed = self._exit_status()
                elif returncode == _KILLED:
                    oom_killed = stream.stdout.oom_killed
        finally:
            if not ended:
                self._end(stream)
        self.goes_on = ended and stream.stdout.goes_on
        self._harnesses.add(harness)
        return ExecResult(
            returncode,
            stream.stdout.text(),
            stream.stderr.text(),
            duration=duration,
            timed_out=timed_out,
            oom_killed=oom_killed,
            output_truncated=stream.stdout.truncated or stream.stderr.truncated,
            python_version=self._python_version,
        )

    def _end_program(self, stream: ContainerStream) -> bool:
        """Have the bootstrap program end a session's program; return whether the session goes on."""
        if not stream.ask_to_end():
            return False
        end = time.monotonic() + END_SECONDS
        while stream.status is None and time.monotonic() < end:
            if stream.turn(POLL_SECONDS):
                return False
        return stream.status is not None

    def _end(self, stream: ContainerStream) -> None:
        """Kill the container while reading its output: the engine does not answer while the stream is full."""
        killer = threading.Thread(target=self.kill, name="nad-sandbox-kill", daemon=True)
        killer.start()
        started = time.monotonic()
        while killer.is_alive() and time.monotonic() - started < _KILL_SECONDS:
            if stream.drain(POLL_SECONDS):
                killer.join(_KILL_SECONDS)
                return
        stream.drain(_DRAIN_SECONDS)

    def kill(self) -> None:
        """Kill all processes of the container."""
        with contextlib.suppress(DockerException, RequestException):
            self._api.kill(self.id, "SIGKILL")

    def remove(self) -> None:
        """Remove the container with its volumes; may be called when it no longer exists."""
        if self._stream is not None:
            # the stream is a view of the socket, which must be closed by itself
            for end in (self._stream, getattr(self._stream, "_sock", None)):
                with contextlib.suppress(OSError):
                    if end is not None:
                        end.close()
            response = getattr(self._stream, "_response", None)
            if response is not None:
                # http.client flushes a file that the stream has already closed
                with contextlib.suppress(OSError, ValueError):
                    response.close()
        with contextlib.suppress(DockerException, RequestException):
            self._api.remove_container(self.id, v=True, force=True)

    def _await_ready(self) -> str:
        """Wait for the bootstrap program's ready message, and return the version of its Python."""
        said = b""
        with contextlib.suppress(OSError):
            header = self._receive_exactly(FRAME_HEADER.size)
            kind, length = FRAME_HEADER.unpack(header) if header else (0, 0)
            said = self._receive_exactly(length)
            version = python_version(said[:READY_SIZE]) if kind != STDERR_STREAM else None
            if version is not None and len(said) == READY_SIZE:
                self._socket.setblocking(False)
                return version
        last = said.decode("utf-8", "replace").strip().splitlines()
        reason = last[-1] if last else "it said nothing"
        raise SandboxUnavailableError(f"the sandbox container did not start: {reason}; is there a Python in its image?")

    def _receive_exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self._socket.recv(size - len(data))
            if not part:
                break
            data += part
        return data

    def _exit_status(self) -> tuple[int, bool]:
        """Return the exit status, and whether the memory limit ended the program."""
        returncode = int(self._api.wait(self.id, timeout=int(START_SECONDS))["StatusCode"])
        if returncode == 0:
            return 0, False
        state = self._api.inspect_container(self.id)["State"]
        if state.get("OOMKilled"):
            return returncode, returncode == _KILLED
        return returncode, False


@contextlib.contextmanager
def _runtime_errors() -> Iterator[None]:
    """Turn errors of the engine during a run into `SandboxFailureError`."""
    try:
        yield
    except (DockerException, RequestException, OSError) as error:
        raise SandboxFailureError(f"the Docker engine broke while a program ran: {error}") from error
