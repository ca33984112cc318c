"""Every example runs."""

import runpy
import sys
from pathlib import Path

import pytest
from llama_index.core import Settings

EXAMPLES = Path(__file__).parents[2] / "examples"
ARGUMENTS: dict[str, list[str]] = {
    "demo.py": [],
    "agent_tools.py": ["--n", "2"],
    "deep_agent.py": ["--n", "2", "--tokens", "32"],
    "llama_index_agent.py": ["--n", "2"],
    "llama_index_query.py": ["--n", "2", "--tokens", "30"],
    "langchain_chain.py": ["--n", "2", "--tokens", "40"],
    "compare_selectors.py": ["--n", "3", "--tokens", "24"],
}


def test_every_example_is_listed():
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(ARGUMENTS)


# those of other libraries are no concern of an example
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ARGUMENTS)
def test_the_example_runs(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [name, *ARGUMENTS[name]])
    # an example may set what the whole process uses
    monkeypatch.setattr(Settings, "callback_manager", Settings.callback_manager)
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    assert capsys.readouterr().out.strip()
