"""Programs of others that speak OpenAI's protocol, set up as the examples say, against `nad serve`."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.servers import KEY, Server

EXAMPLES = Path(__file__).parents[2] / "examples" / "clients"
OPENAI_LIKE = ("llama-index-llms-openai-like==0.8.1", "llama-index-llms-openai==0.8.3", "openai==2.54.0")
"""Beside the openai that the other tests use, which is newer than LlamaIndex allows."""


@pytest.fixture(scope="module")
def server():
    with Server("--name", "coder") as found:
        yield found


def run(*command, **environment):
    done = subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def llm(server, tmp_path):
    """`llm` with the example's settings."""
    settings = (EXAMPLES / "llm-extra-openai-models.yaml").read_text()
    assert "http://127.0.0.1:8000/v1" in settings
    settings = settings.replace("http://127.0.0.1:8000", server.url).replace("n=8", "n=3")
    (tmp_path / "extra-openai-models.yaml").write_text(settings)

    def llm(*arguments):
        return run("-m", "llm", *arguments, LLM_USER_PATH=str(tmp_path))

    llm("keys", "set", "nad", "--value", KEY)
    return llm


def test_llm(llm):
    asked = ("-m", "coder", "-o", "seed", "1", "-o", "max_tokens")
    streamed = llm(*asked, "16", "Name a fruit.")
    assert streamed
    assert llm(*asked, "16", "--no-stream", "Name a fruit.") == streamed
    person = json.loads(llm(*asked, "60", "--schema", "name, age int", "Ada Lovelace died at 36."))
    assert isinstance(person["name"], str)
    assert isinstance(person["age"], int)
    llm(*asked, "8", "-T", "llm_version", "What version is this?")
    last, *_ = json.loads(llm("logs", "list", "--json", "-n", "1"))
    assert last["model"] == "coder"
    assert last["response_json"]["model"] == "coder@n=3,selector=knn"
    assert 0 < last["output_tokens"] <= 8
    assert [tool["name"] for tool in last["tools"]] == ["llm_version"]


# its hundred packages are too many to install for a test
AIDER = shutil.which(os.environ.get("NAD_AIDER", "aider"))


@pytest.mark.skipif(
    AIDER is None, reason="no aider on the PATH, or where NAD_AIDER says; `pip install aider-chat` in a venv of its own"
)
def test_aider_edits_a_file_and_commits_it(server):
    edited = []
    for seed in ("1", "2", "3"):  # so small a model may fail once, and rounding differs between machines
        where = ("--api-base", f"{server.url}/v1", "--api-key", KEY)
        said = run(EXAMPLES / "aider_edit.py", *where, "--aider", AIDER, "--seed", seed)
        _, patch, content = re.split(r"^--- what aider committed ---$|^--- greet\.py ---$", said, flags=re.MULTILINE)
        edited.append((patch, content.strip()))
        if edited[-1][1] == 'def greet(name):\n    return "Hi"':
            break
    patch, content = edited[-1]
    assert content == 'def greet(name):\n    return "Hi"', edited
    assert '-    return "Hello"\n+    return "Hi"\n' in patch


@pytest.fixture(scope="module")
def openai_like(tmp_path_factory):
    """A folder with LlamaIndex' package and the openai it takes."""
    folder = tmp_path_factory.mktemp("openai_like")
    run("-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), *OPENAI_LIKE)
    return folder


def test_llama_indexs_openai_like(server, openai_like):
    path = os.pathsep.join([str(openai_like), *filter(None, [os.environ.get("PYTHONPATH")])])
    said = run(
        EXAMPLES / "openai_like.py",
        PYTHONPATH=path,
        NAD_API_BASE=f"{server.url}/v1",
        NAD_API_KEY=KEY,
        NAD_MODEL="coder@n=3",
    )
    found = dict(re.findall(r"^(chat|stream|candidates|complete|person): (.+?)(?=^\w+: |\Z)", said, re.M | re.S))
    assert set(found) == {"chat", "stream", "candidates", "complete", "person"}, said
    assert found["chat"] == found["stream"]
    assert len(ast.literal_eval(found["candidates"])) == 3
    assert isinstance(json.loads(found["person"])["age"], int)
