"""A Docker engine with the sandbox image; absent, the tests fail and say how to start one."""

import pytest
from nad_sandbox import DockerSandbox, Limits, SandboxUnavailableError

LIMITS = Limits(timeout=4.0, memory_mb=96, pids=32, tmpfs_mb=16, output_bytes=16 * 1024)


@pytest.fixture(scope="session")
def sandbox():
    with DockerSandbox(limits=LIMITS, build=True) as made:
        try:
            made.check_available()
        except SandboxUnavailableError as error:
            pytest.fail(f"{error}; `sandbox/engine.sh with make test` starts a private engine on Debian", pytrace=False)
        yield made
