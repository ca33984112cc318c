"""Both backends; one that is absent fails its tests, and says how to get it."""

import pytest
from nad_sandbox import BubblewrapSandbox, DockerSandbox, Limits, SandboxUnavailableError

LIMITS = Limits(timeout=4.0, memory_mb=96, pids=32, tmpfs_mb=16, output_bytes=16 * 1024)
MAKE = {
    "docker": lambda: DockerSandbox(limits=LIMITS, build=True),
    "bubblewrap": lambda: BubblewrapSandbox(limits=LIMITS),
}


def available(made):
    try:
        made.check_available()
    except SandboxUnavailableError as error:
        pytest.fail(
            f"{error}; `sandbox/engine.sh with make test` installs bubblewrap and starts a private engine on Debian",
            pytrace=False,
        )
    return made


@pytest.fixture(scope="session", params=MAKE)
def sandbox(request):
    with MAKE[request.param]() as made:
        yield available(made)
