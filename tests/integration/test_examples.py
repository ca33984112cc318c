"""Every example runs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
ARGUMENTS = {
    "agent_tools.py": ["--n", "3"],
    "llama_index_agent.py": ["--n", "3"],
    "llama_index_query.py": ["--n", "3", "--tokens", "30"],
    "langchain_chain.py": ["--n", "3", "--tokens", "40"],
    "compare_selectors.py": ["--n", "3", "--tokens", "24"],
}


def test_every_example_is_listed():
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(ARGUMENTS)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_the_example_runs(name):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "120"}
    done = subprocess.run(
        [sys.executable, EXAMPLES / name, *ARGUMENTS[name]],
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
