"""Imports run one way: integrations -> nad_agents, nad_sandbox -> nothing of ours, nad_agents -> neither."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = {"nad_agents", "nad_sandbox", "langchain_nad", "nad_server"}
ROOMS = {
    "nad_agents": (ROOT / "nad_agents", set()),
    "nad_sandbox": (ROOT / "sandbox" / "nad_sandbox", set()),
    "langchain_nad": (ROOT / "integrations" / "langchain_nad", {"nad_agents", "nad_sandbox"}),
    "nad_server": (ROOT / "integrations" / "nad_server", {"nad_agents", "nad_sandbox"}),
}
# applications on top of the library, which bring library and sandbox together
BORROWING = {
    "integrations/nad_server/asking.py": {"langchain_nad"},
    "nad_agents/cli/serve.py": {"nad_server"},
}
COMPOSING = ("nad_agents/cli/", "nad_agents/evaluation/scoring.py")
FORBIDDEN = {"nad_agents": {"langchain_core", "docker"}, "nad_sandbox": {"torch", "transformers", "langchain_core"}}


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield (node.module or "").split(".")[0]


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_it_may(room):
    folder, allowed = ROOMS[room]
    files = sorted(folder.rglob("*.py"))
    assert files
    for path in files:
        name = path.relative_to(ROOT).as_posix()
        may = allowed | {room} | BORROWING.get(name, set()) | ({"nad_sandbox"} if name.startswith(COMPOSING) else set())
        found = set(imported(path))
        assert found & OURS <= may, name
        assert not found & FORBIDDEN.get(room, set()), name
