"""The server's image: built by deploy/Dockerfile without a registry or an index, and run as the README shows.

The packages in it are those of this environment, and the model is a random one: what is tested is the image.
"""

import json
import re
import shlex
import shutil
import subprocess
import sys
import time
from contextlib import closing
from importlib.metadata import distribution
from pathlib import Path

import httpx
import pytest
from nad_sandbox import DockerSandbox
from nad_sandbox.backends.docker_client import connect
from nad_sandbox.image import IMAGE
from nad_sandbox.image.packages import add_packages

from nad_agents.testing import byte_tokenizer
from tests.image.installed_wheels import pack_wheel
from tests.tiny_models import make_model
from tests.unit.docs_scripts import dependencies

pytestmark = pytest.mark.timeout(1800)

ROOT = Path(__file__).parents[2]
BASE, TAG, NETWORK, VOLUME = (f"nad-server-test-{name}" for name in ("base", "image", "network", "volume"))
HERE = "{}.{}".format(*sys.version_info)


def docker(*arguments):
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False, timeout=1500)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout.strip()


@pytest.fixture(scope="module")
def base():
    """An image with pip and with this Python, for which the wheels are: from a registry, or from Debian's packages."""
    with DockerSandbox(build=True, prestart=0) as sandbox:
        version = sandbox.run_python("import sys; print('{}.{}'.format(*sys.version_info))").stdout.strip()
    if version != HERE:
        yield f"python:{HERE}-slim"
        return
    with closing(connect()) as api:
        add_packages(["pip"], BASE, base=IMAGE, api=api)
    yield BASE
    docker("image", "rm", "--force", BASE)


@pytest.fixture(scope="module")
def image(base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("context")
    (folder / "dist").mkdir()
    shutil.copytree(ROOT / "deploy", folder / "deploy")
    options = ("--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", folder / "dist")
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, ROOT], check=True, timeout=240)
    wanted = dependencies.dependencies("nad-agents", frozenset({"server", "gguf"})).keys() - {"nad-agents"}
    for name in wanted | dependencies.dependencies("pip", frozenset()).keys():
        pack_wheel(distribution(name), folder / "dist")
    arguments = ("--build-arg", f"BASE={base}", "--build-arg", "PIP_NO_INDEX=1")
    shown = docker("build", "--file", str(folder / "deploy" / "Dockerfile"), *arguments, "--tag", TAG, str(folder))
    yield TAG
    shutil.rmtree(folder)
    docker("image", "rm", "--force", TAG)
    # the first stage, which has no name
    for stage in re.findall(r"^ ---> (\w+)\nStep \d+/\d+ : FROM", shown, re.MULTILINE):
        docker("image", "rm", "--force", stage)


@pytest.fixture(scope="module")
def container(image, tmp_path_factory):
    """A container started with the line of the README: its port is published on this machine, /models is a volume."""
    model = tmp_path_factory.mktemp("model")
    make_model("llama", num_hidden_layers=1, max_position_embeddings=1024).save_pretrained(model)
    byte_tokenizer().save_pretrained(model)
    for path in (model, *model.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    (line,) = re.findall(
        r"^docker run .* nad-server .*$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    of_engine, of_server = line.removeprefix("docker run ").split(" nad-server ")
    # any free port, on this machine only; a volume and a network of the test's own
    of_engine = of_engine.replace(" 8000:8000 ", " 127.0.0.1::8000 ").replace(" nad-models:", f" {VOLUME}:")
    docker("network", "create", NETWORK)
    options = ("--detach", "--network", NETWORK, "--volume", f"{model}:/model:ro", *shlex.split(of_engine))
    try:
        started = docker("run", *options, image, *shlex.split(of_server), "--model", "/model", "--name", "tiny")
        yield started
        docker("rm", "--force", started)
    finally:
        docker("network", "rm", NETWORK)
        docker("volume", "rm", "--force", VOLUME)


@pytest.fixture(scope="module")
def http(container):
    address = docker("port", container, "8000").splitlines()[0]
    headers = {"authorization": "Bearer secret"}
    with httpx.Client(base_url=f"http://{address}", headers=headers, timeout=60) as client:
        end = time.monotonic() + 240
        while (health := state(container)["Health"])["Status"] != "healthy":
            assert state(container)["Running"], docker("logs", container)
            assert time.monotonic() < end, health
            time.sleep(0.5)
        yield client


def state(container):
    return json.loads(docker("inspect", "--format", "{{json .State}}", container))


def test_a_published_port_answers_when_the_container_is_healthy(http):
    assert [model["id"] for model in http.get("/v1/models").json()["data"]] == ["tiny"]
    body = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 8}
    answer = http.post("/v1/chat/completions", json=body).json()
    assert answer["nad"]["n"] == 8
    assert answer["usage"]["completion_tokens"] > 0
    assert http.get("/ui/").status_code == 200


def test_the_key_is_required(http):
    assert http.get("/v1/models", headers={"authorization": "Bearer another"}).status_code == 401


def test_the_server_runs_as_a_user_who_may_write_to_the_models_only(container, http):
    assert docker("exec", container, "python3", "-c", "import os; print(os.getuid())") == "10001"
    writable = docker(
        "exec", container, "sh", "-c", "for f in /models /opt/nad /usr /etc; do test -w $f && echo $f; done; :"
    )
    assert writable == "/models"


def test_the_server_ends_when_it_is_told_to(container, http):
    docker("stop", "-t", "30", container)
    assert state(container)["ExitCode"] == 0
