"""Both backends; one that is absent fails its tests, and says how to get it."""

import time

import pytest
from nad_sandbox import BubblewrapSandbox, DockerSandbox, Limits, SandboxUnavailableError

from tests.integration.sandbox.users import UserSandbox

LIMITS = Limits(timeout=4.0, memory_mb=96, pids=32, tmpfs_mb=16, output_bytes=16 * 1024)
MAKE = {
    "docker": lambda: DockerSandbox(limits=LIMITS, build=True),
    "bubblewrap": lambda: BubblewrapSandbox(limits=LIMITS),
    "bubblewrap of a user": lambda: UserSandbox(LIMITS),
}


def opened(kind):
    made = MAKE[kind]()
    try:
        made.check_available()
    except SandboxUnavailableError as error:
        made.close()
        pytest.fail(
            f"{error}; `sandbox/engine.sh with make test` installs bubblewrap and starts a private engine on Debian",
            pytrace=False,
        )
    return made


def run_quickly(sandbox, code, **options):
    """A program's result, which must come soon after the time limit, whatever the program does."""
    started = time.monotonic()
    result = sandbox.run_python(code, **options)
    assert time.monotonic() - started < 12
    return result


@pytest.fixture(scope="session", params=["docker", "bubblewrap"])
def sandbox(request):
    with opened(request.param) as made:
        yield made


@pytest.fixture(scope="session", params=MAKE)
def any_sandbox(request):
    with opened(request.param) as made:
        yield made


@pytest.fixture(scope="session")
def docker_sandbox():
    with opened("docker") as made:
        yield made
