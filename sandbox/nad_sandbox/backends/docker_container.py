"""One container, started ahead of time, that takes one program on its standard input and is then removed."""

from __future__ import annotations

import contextlib
import json
import secrets
import selectors
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import docker
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from requests.exceptions import RequestException

from nad_sandbox.backends.launcher import BOOTSTRAP_FLAGS, READY, START_SECONDS, bootstrap_source
from nad_sandbox.base import ExecResult, Limits, SandboxFailureError, SandboxUnavailableError
from nad_sandbox.isolation.policy import SANDBOX_GID, SANDBOX_UID, SCRATCH, SHARED_MEMORY, WORKDIR, container_settings
from nad_sandbox.ownership.owner import Owner
from nad_sandbox.process.container_stream import FRAME_HEADER, STDERR_STREAM, Exchange
from nad_sandbox.program import Job
from nad_sandbox.threaded import POLL_SECONDS

if TYPE_CHECKING:
    import docker

__all__ = ["LABEL", "ContainerRecipe", "OneShotContainer", "engine_errors", "reap_containers"]


LABEL = "nad-sandbox.owner"
"""The label of every sandbox container; its value is the `Owner`."""

KILLED = 128 + 9

# after a kill: how long to wait for what the container still had in its pipes
DRAIN_SECONDS = 1.0

# the engine answers a kill at once, or is broken
KILL_SECONDS = 20.0


@dataclass(frozen=True)
class ContainerRecipe:
    """How sandbox containers are made.

    Attributes:
        image: tag or id of a local image.
        python: the interpreter in it, a name on its PATH or a path.
        limits: what a program may use.
        runtime: an OCI runtime of the engine; None: its default.
    """

    image: str
    python: str
    limits: Limits
    runtime: str | None

    def body(self, volumes: list[str]) -> dict[str, Any]:
        """The engine's create request.

        Args:
            volumes: folders that the image declares as volumes; they are covered, for they would be writable.
        """
        settings = container_settings(self.limits, runtime=self.runtime)
        for volume in volumes:
            if volume.rstrip("/") != SCRATCH:
                settings["Tmpfs"][volume] = "ro,noexec,nosuid,nodev,size=4k"
        bootstrap = json.dumps({"workdir": WORKDIR, "landlock": [SCRATCH, SHARED_MEMORY]})
        return {
            "Image": self.image,
            "Entrypoint": [self.python, *BOOTSTRAP_FLAGS, bootstrap_source(), bootstrap],
            "Cmd": [],
            "User": f"{SANDBOX_UID}:{SANDBOX_GID}",
            "Hostname": "sandbox",
            "WorkingDir": "/",
            "Env": [f"TMPDIR={SCRATCH}"],
            "AttachStdin": True,
            "AttachStdout": True,
            "AttachStderr": True,
            "OpenStdin": True,
            "StdinOnce": True,  # the bootstrap sees the end of its input, and ends, when this process dies
            "Tty": False,
            "NetworkDisabled": True,
            "Healthcheck": {"Test": ["NONE"]},
            "Labels": {LABEL: str(Owner.current())},
            "HostConfig": settings,
        }


class OneShotContainer:
    """A running container whose bootstrap program waits for its job.

    Args:
        api: the engine's client; shared between threads.
        recipe: what to start.
        volumes: see `ContainerRecipe.body`.

    Raises:
        SandboxUnavailableError: the engine cannot be reached, or refuses this container.
    """

    def __init__(self, api: docker.APIClient, recipe: ContainerRecipe, volumes: list[str]) -> None:
        self._api = api
        self._limits = recipe.limits
        self._stream: Any = None
        with engine_errors(recipe.image):
            self.id: str = api.create_container_from_config(recipe.body(volumes))["Id"]
        try:
            with engine_errors(recipe.image):
                # attached before the start: what is written first is not lost
                parameters = {"stream": 1, "stdin": 1, "stdout": 1, "stderr": 1}
                self._stream = api.attach_socket(self.id, params=parameters)
                self._socket: socket.socket = getattr(self._stream, "_sock", self._stream)
                self._socket.settimeout(START_SECONDS)
                api.start(self.id)
            self._await_ready()
        except BaseException:
            self.remove()
            raise

    def is_usable(self) -> bool:
        """Whether it still waits for its job; it does not after the engine was restarted."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._socket, selectors.EVENT_READ)
            return not selector.select(0)  # readable means: it said something unasked, or it is gone

    def run(self, job: Job, cancelled: threading.Event) -> ExecResult:
        """Run a job; the container is of no more use afterwards, whatever happens.

        Raises:
            SandboxFailureError: the engine broke.
        """
        mark = secrets.token_hex(16)
        exchange = Exchange(self._socket, job.feed(mark=mark), self._limits.output_bytes, mark.encode())
        started = time.monotonic()
        returncode: int | None = None
        ended = timed_out = oom_killed = False
        try:
            with _runtime_errors():
                while not ended:
                    left = started + job.timeout - time.monotonic()
                    timed_out = left <= 0
                    if timed_out or cancelled.is_set():
                        break
                    ended = exchange.turn(min(left, POLL_SECONDS))
                    # of one that was killed, the engine knows why
                    if exchange.status not in (None, KILLED):
                        returncode, ended = exchange.status, True
                        break
                duration = time.monotonic() - started
                if ended and returncode is None:
                    returncode, oom_killed = self._exit_status()
        finally:
            if not ended:
                self._end(exchange)
        return ExecResult(
            returncode,
            exchange.stdout.text(),
            exchange.stderr.text(),
            duration=duration,
            timed_out=timed_out,
            oom_killed=oom_killed,
            output_truncated=exchange.stdout.truncated or exchange.stderr.truncated,
        )

    def _end(self, exchange: Exchange) -> None:
        """Kill it while its output is read: the engine does not answer as long as a flood is stuck in the stream."""
        killer = threading.Thread(target=self.kill, name="nad-sandbox-kill", daemon=True)
        killer.start()
        started = time.monotonic()
        while killer.is_alive() and time.monotonic() - started < KILL_SECONDS:
            if exchange.drain(POLL_SECONDS):
                killer.join(KILL_SECONDS)
                return
        exchange.drain(DRAIN_SECONDS)

    def kill(self) -> None:
        """End all its processes."""
        with contextlib.suppress(DockerException, RequestException):
            self._api.kill(self.id, "SIGKILL")

    def remove(self) -> None:
        """Remove it with all that belongs to it; may be called for one that is gone."""
        if self._stream is not None:
            # the stream is a view of the socket, which stays open until it is closed itself
            for end in (self._stream, getattr(self._stream, "_sock", None)):
                with contextlib.suppress(OSError):
                    if end is not None:
                        end.close()
            response = getattr(self._stream, "_response", None)
            if response is not None:
                # http.client flushes a file that the stream has closed already
                with contextlib.suppress(OSError, ValueError):
                    response.close()
        with contextlib.suppress(DockerException, RequestException):
            self._api.remove_container(self.id, v=True, force=True)

    def _await_ready(self) -> None:
        """Wait for the byte with which the bootstrap program says that it waits for its job."""
        said = b""
        with contextlib.suppress(OSError):
            header = self._receive_exactly(FRAME_HEADER.size)
            kind, length = FRAME_HEADER.unpack(header) if header else (0, 0)
            said = self._receive_exactly(length)
            if said == READY and kind != STDERR_STREAM:
                self._socket.setblocking(False)
                return
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
        """Return code, and whether the memory limit ended the program."""
        returncode = int(self._api.wait(self.id, timeout=int(START_SECONDS))["StatusCode"])
        if returncode == 0:
            return 0, False
        state = self._api.inspect_container(self.id)["State"]
        if state.get("OOMKilled"):
            return returncode, returncode == KILLED
        return returncode, False


@contextlib.contextmanager
def engine_errors(image: str) -> Iterator[None]:
    """Tell why a container could not be made."""
    try:
        yield
    except ImageNotFound:
        raise SandboxUnavailableError(
            f"the engine has no image {image!r}; build it with `python -m nad_sandbox.image`, "
            "or pass build=True, or image=... with one that it has"
        ) from None
    except (APIError, NotFound) as error:
        raise SandboxUnavailableError(f"the Docker engine refused the sandbox: {error.explanation or error}") from error
    except (DockerException, RequestException, OSError) as error:
        raise SandboxUnavailableError(f"the Docker engine cannot be reached: {error}") from error


@contextlib.contextmanager
def _runtime_errors() -> Iterator[None]:
    """Tell that the engine broke under a running program."""
    try:
        yield
    except (DockerException, RequestException, OSError) as error:
        raise SandboxFailureError(f"the Docker engine broke while a program ran: {error}") from error


def reap_containers(api: docker.APIClient) -> list[str]:
    """Remove sandbox containers whose owner is dead.

    Args:
        api: the engine's client.

    Returns:
        A line for each removed container.
    """
    from docker.errors import DockerException

    removed = []
    for container in api.containers(all=True, filters={"label": LABEL}):
        owner = Owner.parse(container["Labels"][LABEL])
        # one that has stopped belongs to nobody after a reboot, when process ids count anew
        abandoned = owner is None or owner.is_gone() or (owner.is_of_earlier_boot() and container["State"] != "running")
        if not abandoned:
            continue
        with contextlib.suppress(DockerException):
            api.remove_container(container["Id"], v=True, force=True)
            removed.append(f"container {container['Id'][:12]} of process {owner.pid if owner else 'unknown'}")
    return removed
