"""An image of the user's own: more packages on top of the project's, just as isolated."""

import io
import re
import subprocess
import sys
import tarfile

import pytest
from nad_sandbox import CodeVerifier, DockerSandbox, SandboxUnavailableError
from nad_sandbox.backends.docker_client import connect
from nad_sandbox.image import IMAGE
from nad_sandbox.image.packages import add_packages

TAG = "nad-sandbox-test-numpy:1"
ANSWER = "```python\nimport numpy as np\n\ndef double(x):\n    return np.asarray(x) * 2\n```"


def build(*arguments):
    command = [sys.executable, "-m", "nad_sandbox.image", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def numpy_sandbox():
    built = build("--with", "numpy", "--tag", TAG)
    assert built.returncode == 0, built.stderr
    assert built.stdout.startswith(f"{TAG} sha256:")
    try:
        with DockerSandbox(TAG) as sandbox:
            yield sandbox
    finally:
        api = connect()
        api.remove_image(TAG, force=True)
        api.close()


def test_code_with_the_package_is_checked(numpy_sandbox):
    tests = "import numpy as np\nassert np.allclose(double([1, 2]), [2, 4])"
    assert CodeVerifier(numpy_sandbox, tests=tests).verify(ANSWER).passed
    wrong = CodeVerifier(numpy_sandbox, tests=tests).verify(ANSWER.replace("* 2", "* 3"))
    assert not wrong.passed


def test_it_is_as_isolated_as_the_projects_own(numpy_sandbox):
    code = (
        "import os, numpy\nprint(os.getuid() in range(0x70000000, 0x7FFFFFFE))\n"
        "for place in ('/usr/lib', os.path.dirname(numpy.__file__)):\n"
        "    try: open(place + '/x', 'w')\n    except OSError as error: print(error.strerror)\n"
    )
    assert numpy_sandbox.run_python(code).stdout == "True\nRead-only file system\nRead-only file system\n"


def test_the_projects_own_image_has_no_such_package():
    with DockerSandbox(build=True, prestart=0) as sandbox:
        verdict = CodeVerifier(sandbox).verify(ANSWER)
    assert not verdict.passed
    assert "numpy" in verdict.feedback


def test_the_dockerfile_makes_an_image_too():
    tag = "nad-sandbox-test-dockerfile:1"
    built = build("--method", "dockerfile", "--base", IMAGE, "--tag", tag)
    assert built.returncode == 0, built.stderr
    api = connect()
    try:
        with DockerSandbox(tag, prestart=0) as sandbox:
            look = "import json, os\nprint(os.getuid() in range(0x70000000, 0x7FFFFFFE), json.__cached__, os.path.exists(json.__cached__))"
            assert re.fullmatch(r"True /\S+/__pycache__/\S+ True\n", sandbox.run_python(look).stdout)
            assert CodeVerifier(sandbox, tests="assert f() == 1").verify("def f(): return 1").passed
        refused = build("--method", "dockerfile", "--base", "nad-no-such-image:1", "--tag", tag)
        assert refused.returncode == 1
        assert "could not be built" in refused.stderr
    finally:
        api.remove_image(tag, force=True)
        api.close()


def test_what_cannot_be_built_says_why():
    with pytest.raises(SandboxUnavailableError, match="pip could not get nad-no-such-package as wheels: ERROR"):
        add_packages(["nad-no-such-package"], "nad-sandbox-test-none:1", base=IMAGE)
    with pytest.raises(ValueError, match="name one or more packages"):
        add_packages(["--index-url=x"], "nad-sandbox-test-none:1", base=IMAGE)
    refused = build("--with", "numpy")
    assert refused.returncode == 2
    assert "give it a --tag of its own" in refused.stderr


@pytest.fixture
def image_without_pytest():
    """An image such as a user's own: the project's, less what was added for tests of programs."""
    tag = "nad-sandbox-test-plain:1"
    with DockerSandbox(build=True, prestart=0) as sandbox:
        sandbox.check_available()
    api = connect()
    container = api.create_container(IMAGE)["Id"]
    try:
        whole, plain = io.BytesIO(b"".join(api.export(container))), io.BytesIO()
        with tarfile.open(fileobj=whole) as source, tarfile.open(fileobj=plain, mode="w") as target:
            for entry in source:
                if not entry.name.startswith("opt/nad-sandbox"):
                    target.addfile(entry, source.extractfile(entry) if entry.isfile() else None)
        plain.seek(0)
        api.import_image_from_data(plain.read(), repository="nad-sandbox-test-plain", tag="1")
        yield tag
    finally:
        api.remove_container(container, force=True)
        for image in api.images("nad-sandbox-pytest"):
            api.remove_image(image["Id"], force=True)
        api.remove_image(tag, force=True)
        api.close()


def test_pytest_is_added_to_an_image_that_has_none(image_without_pytest):
    tests = "def test_double(capsys):\n    assert double(2) == 4"
    right = "def double(x): return 2 * x"
    with DockerSandbox(image_without_pytest) as sandbox:
        assert CodeVerifier(sandbox, tests="assert double(2) == 4").verify(right).passed
        assert sandbox.run_python("import os\nprint(os.path.exists('/opt/nad-sandbox'))").stdout == "False\n"
        assert CodeVerifier(sandbox, tests=tests).verify(right).passed
        assert not CodeVerifier(sandbox, tests=tests).verify("def double(x): return x").passed
    api = connect()
    made = [image["Id"] for image in api.images("nad-sandbox-pytest")]
    assert len(made) == 1
    with DockerSandbox(image_without_pytest) as sandbox:
        assert CodeVerifier(sandbox, tests=tests).verify(right).passed
    assert [image["Id"] for image in api.images("nad-sandbox-pytest")] == made
    api.close()
