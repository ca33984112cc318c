"""Each extra brings what its package imports, and no framework that it does not need."""

import ast
import tomllib
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from sys import stdlib_module_names

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.unit.sources import ROOT, modules, package_of

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ROOTS = {
    "": ["nad_agents", "nad_agents.decoder", "nad_agents.cli", "nad_agents.testing"],
    "deepagents": ["langchain_nad.sandbox_backend"],
    "inspect-ai": ["nad_inspect_ai"],
    "langchain": ["langchain_nad"],
    "llama-index": ["llama_index.llms.nad"],
    "mcp": ["nad_mcp", "nad_mcp.command", "nad_mcp.server", "nad_mcp.http"],
    "ray": ["nad_server.ray_app"],
    "sandbox": ["nad_sandbox"],
    "server": ["nad_server"],
    "smolagents": ["nad_smolagents"],
}
"""Extra -> the packages that have to be importable with it; without an extra, the library itself."""
FRAMEWORKS = {
    "": {"langchain", "langchain-core", "llama-index-core", "fastapi", "docker"},
    "deepagents": {"llama-index-core", "fastapi"},
    "inspect-ai": {"langchain", "langchain-core", "llama-index-core"},
    "langchain": {"llama-index-core", "fastapi", "docker"},
    "llama-index": {"langchain", "langchain-core", "fastapi", "docker"},
    "mcp": {"langchain", "langchain-core", "llama-index-core", "fastapi", "docker"},
    "ray": {"langchain", "langchain-core", "llama-index-core", "docker", "pandas"},
    "sandbox": {"langchain", "langchain-core", "llama-index-core", "fastapi"},
    "server": {"langchain", "langchain-core", "llama-index-core", "docker"},
    "smolagents": {"langchain", "langchain-core", "llama-index-core", "fastapi"},
}


distributions_by_module = cache(packages_distributions)


@cache
def needed(requirement: str) -> frozenset[str]:
    """Names of all distributions that come with a requirement, by the metadata of what is installed."""
    found, todo = set(), [Requirement(requirement)]
    while todo:
        one = todo.pop()
        key = (canonicalize_name(one.name), frozenset(one.extras))
        if key in found:
            continue
        found.add(key)
        try:
            declared = requires(one.name) or []
        except PackageNotFoundError:
            continue  # for another platform
        extras = one.extras or {""}
        for each in map(Requirement, declared):
            todo += [each] if each.marker is None or any(each.marker.evaluate({"extra": e}) for e in extras) else []
    return frozenset(name for name, _ in found)


def brought_by(extra):
    declared = [*PROJECT["dependencies"], *(PROJECT["optional-dependencies"][extra] if extra else [])]
    return frozenset().union(*map(needed, declared))


def imported_at_once(module):
    """Names that importing a module imports: those in functions and under TYPE_CHECKING come later or never."""
    for node in modules()[module].body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def reached(roots):
    """Modules of ours that importing these packages imports, packages on the way included; and names of others."""
    ours, others, todo = set(), set(), list(roots)
    while todo:
        name = todo.pop()
        if name not in modules():
            if package_of(name) is None:
                others.add(name.split(".")[0])
            continue
        if name in ours:
            continue
        ours.add(name)
        parent = name.rpartition(".")[0]
        todo += [*imported_at_once(name), *([parent] if parent in modules() else [])]
    return ours, others - set(stdlib_module_names)


@pytest.mark.parametrize("extra", ROOTS)
def test_an_extra_brings_no_framework_that_it_does_not_need(extra):
    assert not brought_by(extra) & FRAMEWORKS[extra]


@pytest.mark.parametrize("extra", ROOTS)
def test_an_extra_brings_what_its_package_imports(extra):
    _, others = reached(ROOTS[extra])
    brought = brought_by(extra)
    for name in others:
        assert {canonicalize_name(found) for found in distributions_by_module()[name]} & brought, name


def test_everything_is_all_extras_but_those_that_pin_versions_or_bring_much_of_their_own():
    (everything,) = map(Requirement, PROJECT["optional-dependencies"]["all"])
    assert everything.name == PROJECT["name"]
    left_out = {"all", "vllm", "deepagents", "inspect-ai", "smolagents"}
    assert everything.extras == set(PROJECT["optional-dependencies"]) - left_out


def test_inspect_finds_the_sandbox_environment_by_its_entry_point():
    assert PROJECT["entry-points"]["inspect_ai"] == {"nad_inspect_ai": "nad_inspect_ai"}


def test_vllm_finds_the_plugin_by_its_entry_point():
    assert PROJECT["entry-points"]["vllm.general_plugins"] == {"nad_agents": "nad_agents.engine.vllm.plugin:register"}


def test_the_commands_of_integrations_are_found_by_their_entry_points():
    assert PROJECT["entry-points"]["nad_agents.commands"] == {
        "mcp": "nad_mcp.command:mcp",
        "serve": "nad_server.command:serve",
    }
