"""Run programs in Docker containers that are started ahead of time and used once."""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING

from nad_sandbox.backends.docker_client import connect, engine_errors
from nad_sandbox.backends.launcher import Lifetime
from nad_sandbox.backends.pool import WarmPool
from nad_sandbox.base import ExecResult, Limits, SandboxUnavailableError
from nad_sandbox.isolation.sandbox_user import users_of_engine
from nad_sandbox.ownership.containers import reap_containers
from nad_sandbox.program import Program
from nad_sandbox.threaded import ThreadedSandbox

if TYPE_CHECKING:
    import docker

    from nad_sandbox.backends.container_recipe import ContainerRecipe
    from nad_sandbox.backends.docker_container import DockerContainer

__all__ = ["DockerSandbox"]


class DockerSandbox(ThreadedSandbox):
    """Runs each program in a container of its own: no network, nothing writable but a small tmpfs, hard limits.

    Each container has a user id of its own, since the kernel counts pipes, timers and inotify instances for each user.
    Containers are started ahead of time, read one program from their standard input, and are removed in the background.
    The engine is contacted when the first program is run, or by `start`.

    Args:
        image: A local image with Python 3.8 or later; default: the project's own.
        docker_host: Address of the engine; default: DOCKER_HOST, else the default socket.
        limits: Limits of each program.
        parallel: Number of programs that may run at once; default: one per CPU core.
        prestart: Number of containers to keep ready; default: the value of `parallel`.
        python: The interpreter in the image.
        runtime: An OCI runtime that the engine knows, such as "runsc" (gVisor); default: the engine's.
        build: Build the project's image when the engine does not have it.
        pull: Pull `image` from its registry when the engine does not have it.

    Raises:
        ValueError: A limit, `parallel` or `prestart` is out of range, or `build` is set for another image.
    """

    def __init__(
        self,
        image: str | None = None,
        *,
        docker_host: str | None = None,
        limits: Limits | None = None,
        parallel: int | None = None,
        prestart: int | None = None,
        python: str = "python3",
        runtime: str | None = None,
        build: bool = False,
        pull: bool = False,
    ) -> None:
        from nad_sandbox.image import IMAGE

        super().__init__(limits=limits, parallel=parallel)
        self.image = image or IMAGE
        if build and self.image != IMAGE:
            raise ValueError(f"build=True builds {IMAGE!r} and not {self.image!r}; build that one with docker build")
        self.prestart = self.parallel if prestart is None else prestart
        if self.prestart < 0:
            raise ValueError(f"prestart is {prestart}: it must be 0 or more")
        self.docker_host = docker_host
        self.python = python
        self.runtime = runtime
        self._build = build
        self._pull = pull
        self._api: docker.APIClient | None = None
        self._pool: WarmPool[DockerContainer] | None = None
        self._recipe: ContainerRecipe | None = None
        self._volumes: list[str] = []
        self._pid = 0
        self._with_pytest = ""  # the image with pytest on top, once it is built
        self._pytest_asked = False
        self._starting = threading.Lock()
        _open_sandboxes.add(self)

    def start(self) -> None:
        """Connect to the engine, check the image, remove leftovers of killed processes, and start filling the pool.

        Raises:
            SandboxUnavailableError: No engine answers, there is no image, or the engine refuses the sandbox.
        """
        self._started_pool().prepare()

    def check_available(self) -> None:
        """Check that the engine answers and has the image.

        Raises:
            SandboxUnavailableError: No engine answers or the image is missing; the message says what to do.
        """
        self._started_pool()

    def wait_ready(self) -> None:
        """Wait until the pool is full and used containers are gone."""
        pool = self._started_pool()
        pool.prepare()
        pool.wait_idle()

    def provide_pytest(self) -> None:
        """Build an image with pytest on top of `image` once, if it has none; the project's own image has pytest.

        The new image is kept for the next sandbox. If it cannot be built, tests that need pytest are refused, and other
        tests run.
        """
        with self._starting:
            if self._pytest_asked:
                return
            self._pytest_asked = True
        self._started_pool()
        with self._starting:
            api, old = self._api, self._pool
            if api is None or old is None:
                return
            with contextlib.suppress(SandboxUnavailableError):
                self._with_pytest = _image_with_pytest(api, self.image, self.python)
            if not self._with_pytest:
                return
            self._api = self._pool = None
        old.close()
        api.close()

    def close(self) -> None:
        """Remove every container of this sandbox; may be called twice."""
        super().close()
        with self._starting:
            pool, self._pool = self._pool, None
            api, self._api = self._api, None
            mine = self._pid == os.getpid()
        if mine and pool is not None:
            pool.close()
        if mine and api is not None:
            # other threads may still be running programs: taking every slot waits for them
            for _ in range(self.parallel):
                self._slots.acquire()
            self._slots.release(self.parallel)
            api.close()

    def _run(self, program: Program, cancelled: threading.Event) -> ExecResult:
        pool = self._started_pool()
        container = pool.take()
        try:
            return container.run(program, cancelled)
        except BaseException:
            # an interrupt or a broken engine may end this process next, so the container must end now
            container.kill()
            raise
        finally:
            pool.give_back(container)

    def _session_process(self, limits: Limits, lifetime: Lifetime) -> DockerContainer:
        from nad_sandbox.backends.docker_container import DockerContainer

        self._started_pool()
        with self._starting:
            api, recipe, volumes = self._api, self._recipe, self._volumes
        if api is None or recipe is None:
            raise SandboxUnavailableError("this DockerSandbox is closed; make a new one")
        return DockerContainer(api, replace(recipe, limits=limits, lifetime=lifetime), volumes)

    def _started_pool(self) -> WarmPool[DockerContainer]:
        with self._starting:
            if self._closed:
                raise SandboxUnavailableError("this DockerSandbox is closed; make a new one")
            if self._pool is None or self._pid != os.getpid():  # a forked process shares neither threads nor containers
                self._pool = self._make_pool()
                self._pid = os.getpid()
            return self._pool

    def _make_pool(self) -> WarmPool[DockerContainer]:
        api = connect(self.docker_host)  # connect first: its error says what to do when the package docker is missing
        from nad_sandbox.backends.container_recipe import ContainerRecipe
        from nad_sandbox.backends.docker_container import DockerContainer

        try:
            reap_containers(api)
            with engine_errors(self.image):
                users = users_of_engine(api.info().get("SecurityOptions") or ())
            recipe = ContainerRecipe(self._with_pytest or self.image, self.python, self.limits, self.runtime, users)
            volumes = self._image_volumes(api, recipe)
        except BaseException:
            api.close()
            raise
        self._api, self._recipe, self._volumes = api, recipe, volumes
        return WarmPool(
            make=lambda: DockerContainer(api, recipe, volumes),
            discard=lambda container: container.remove(),
            is_usable=lambda container: container.is_usable(),
            goes_on=lambda container: container.goes_on,
            size=self.prestart,
        )

    def _image_volumes(self, api: docker.APIClient, recipe: ContainerRecipe) -> list[str]:
        """Return the folders that the image declares as volumes, after building or pulling the image if asked to."""
        from docker.errors import ImageNotFound

        with engine_errors(recipe.image):
            try:
                image = api.inspect_image(recipe.image)
            except ImageNotFound:
                self._get_image(api)
                image = api.inspect_image(recipe.image)
        return list((image.get("Config") or {}).get("Volumes") or {})

    def _get_image(self, api: docker.APIClient) -> None:
        if self._build:
            from nad_sandbox.image import build_image

            build_image(api=api)
        elif self._pull:
            repository, _, tag = self.image.partition(":")
            api.pull(repository, tag=tag or "latest")


def _image_with_pytest(api: docker.APIClient, image: str, python: str) -> str:
    """Return the image with pytest on top, built if it does not exist yet; empty when the image itself has pytest.

    Raises:
        SandboxUnavailableError: The image cannot be built.
    """
    from docker.errors import ImageNotFound

    from nad_sandbox.image.packages import PYTEST_LABEL, add_pytest

    about = api.inspect_image(image)
    if PYTEST_LABEL in ((about.get("Config") or {}).get("Labels") or {}):
        return ""
    tag = f"nad-sandbox-pytest:{about['Id'].partition(':')[2][:20]}"
    try:
        api.inspect_image(tag)
    except ImageNotFound:
        add_pytest(tag, base=image, api=api, python=python)
    return tag


_open_sandboxes: weakref.WeakSet[DockerSandbox] = weakref.WeakSet()


def _close_open_sandboxes() -> None:
    for sandbox in list(_open_sandboxes):
        with contextlib.suppress(Exception):
            sandbox.close()


# threads are joined before this runs, so that no program is still running
atexit.register(_close_open_sandboxes)
