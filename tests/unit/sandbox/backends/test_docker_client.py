"""What a user sees where no Docker engine is."""

import gc

import pytest
from nad_sandbox import DockerSandbox, SandboxUnavailableError


def test_an_engine_that_is_not_there_is_named_and_leaves_no_open_socket(tmp_path, recwarn):
    address = f"unix://{tmp_path}/docker.sock"
    with DockerSandbox(docker_host=address) as sandbox:
        with pytest.raises(SandboxUnavailableError, match=f"no Docker engine answers at {address} .*set DOCKER_HOST"):
            sandbox.check_available()
        with pytest.raises(SandboxUnavailableError):
            sandbox.run_python("print(1)")
    gc.collect()
    assert not [warning for warning in recwarn if issubclass(warning.category, ResourceWarning)]
