"""aider edits a file in a scratch git repository, each of its answers chosen by the server among N candidates.

Without --api-base a server is started, with the default model of 135M parameters unless --model says otherwise, which
is about the least that does it: one small file and one plain instruction.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import yaml

FILE = "greet.py"
BEFORE = 'def greet(name):\n    return "Hello"\n'
INSTRUCTION = f'Write the whole file {FILE} again, so that greet returns "Hi" instead of "Hello".'
HERE = Path(__file__).parent
KEY = "local-key"


def main() -> None:
    """Make the repository, let aider work in it, show what it did."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--api-base", help="a server that runs already, such as http://127.0.0.1:8000/v1")
    parser.add_argument("--api-key", default=KEY)
    parser.add_argument("--model", default="HuggingFaceTB/SmolLM2-135M-Instruct", help="what a new server serves")
    parser.add_argument("--dtype", default="auto", help="int8 is the fastest on CPUs that have VNNI or AMX")
    parser.add_argument("--aider", default="aider", help="the program; `pip install aider-chat` in a venv of its own")
    parser.add_argument("--n", type=int, default=4, help="candidates per answer")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--max-tokens", type=int, default=120)
    options = parser.parse_args()

    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aider-edit-")))
        base = options.api_base or stack.enter_context(server(options.model, options.dtype))
        repository = make_repository(folder / "repository")
        (settings,) = yaml.safe_load((HERE / "aider.model.settings.yml").read_text())
        parameters = settings["extra_params"]
        parameters["max_tokens"] = options.max_tokens
        parameters["extra_body"]["seed"] = options.seed
        parameters["extra_body"]["nad"]["n"] = options.n
        (folder / "settings.yml").write_text(yaml.safe_dump([settings]))
        command = [
            options.aider, "--config", HERE / "aider.conf.yml", "--model-settings-file", folder / "settings.yml",
            "--openai-api-base", base, "--openai-api-key", options.api_key,
            "--map-tokens", "0", "--no-auto-lint", "--timeout", "300", "--yes-always",
            "--no-check-update", "--analytics-disable", "--no-gitignore", "--no-pretty",
            "--message", INSTRUCTION, FILE,
        ]  # fmt: skip
        # a home folder of its own, so that no settings of yours take part
        subprocess.run(command, cwd=repository, env={**os.environ, "HOME": str(folder)}, check=True)
        print("\n--- what aider committed ---", flush=True)
        subprocess.run(["git", "--no-pager", "log", "--patch", "--format=%h %an: %s", "-1"], cwd=repository, check=True)
        print(f"\n--- {FILE} ---\n{(repository / FILE).read_text()}", flush=True)


def make_repository(folder: Path) -> Path:
    """A git repository with one file."""
    folder.mkdir()
    (folder / FILE).write_text(BEFORE)
    for command in (
        ["init", "--quiet"],
        ["config", "user.name", "somebody"],
        ["config", "user.email", "somebody@example.com"],
        ["add", FILE],
        ["commit", "--quiet", "--message", "A greeting"],
    ):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder


@contextlib.contextmanager
def server(model: str, dtype: str) -> Iterator[str]:
    """A server on a free port; yields where its API is."""
    command = ["nad", "serve", "--model", model, "--name", "coder", "--port", "0", "--api-key", KEY, "--dtype", dtype]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        lines = []
        for line in process.stderr:
            lines.append(line)
            if found := re.search(r"running on (http://\S+)", line):
                Thread(target=process.stderr.read, daemon=True).start()  # a full pipe would stop it
                yield f"{found[1]}/v1"
                return
        raise SystemExit("".join(lines))
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
