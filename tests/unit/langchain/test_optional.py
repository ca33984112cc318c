"""LangChain's agents are a package of their own, which models and nodes must do without."""

import ast
import importlib.util
import sys
from pathlib import Path

import langchain_nad
import pytest

from nad_agents.exceptions import MissingDependencyError

AGENTS = {"langchain_nad.code_repair", "langchain_nad.step_middleware"}
DEEP_AGENTS = "langchain_nad.sandbox_backend"


def imported_at_once(module):
    """Modules that are imported as soon as this one is: not those within functions or under TYPE_CHECKING."""
    tree = ast.parse(Path(importlib.util.find_spec(module).origin).read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


def reached(module, seen):
    seen.add(module)
    for name in imported_at_once(module):
        if name not in seen and name.startswith("langchain_nad"):
            reached(name, seen)
        seen.add(name)
    return seen


def test_models_and_nodes_need_no_agents():
    modules = reached("langchain_nad", set())
    assert "langchain_nad.step_selection" in modules
    assert "langchain_core" in {name.split(".")[0] for name in modules}
    assert not (AGENTS | {DEEP_AGENTS}) & modules
    assert not {"langchain", "deepagents"} & {name.split(".")[0] for name in modules}
    for module in AGENTS:
        assert "langchain.agents.middleware" in imported_at_once(module)


@pytest.mark.parametrize("name", ["NADStepSelection", "CodeRepair"])
def test_what_needs_them_says_how_to_get_them(name, without):
    without("langchain.agents.middleware", AGENTS)
    with pytest.raises(MissingDependencyError, match=f"{name} needs LangChain's agents"):
        getattr(langchain_nad, name)


def test_the_backend_of_deep_agents_says_how_to_get_them(without):
    without("deepagents.backends.protocol", {DEEP_AGENTS})
    with pytest.raises(MissingDependencyError, match=r"NADSandbox needs deepagents; .*nad-agents\[deepagents\]"):
        _ = langchain_nad.NADSandbox


@pytest.fixture
def without(monkeypatch):
    def forget(package, modules):
        monkeypatch.setitem(sys.modules, package, None)
        for module in modules:
            monkeypatch.delitem(sys.modules, module, raising=False)

    return forget
