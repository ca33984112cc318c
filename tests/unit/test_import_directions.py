"""The directions of imports, read off the sources: imports inside functions and under TYPE_CHECKING count as well.

langchain_nad, llama_index, nad_mcp and nad_server -> nad_agents -> nothing of ours; nad_inspect_ai and
nad_smolagents -> nad_sandbox -> nothing of ours. The command line and the scoring of recorded runs bring the library
and the sandbox together, and so do the front ends.
"""

import networkx as nx
import pytest

from tests.unit.sources import PACKAGES, imported, modules, package_of

FRONT_ENDS = ("langchain_nad", "llama_index.llms.nad", "nad_mcp", "nad_server")
MAY_IMPORT = {
    "nad_agents": set(),
    "nad_sandbox": set(),
    "nad_inspect_ai": {"nad_sandbox"},
    "nad_smolagents": {"nad_sandbox"},
    **{front_end: {"nad_agents", "nad_sandbox"} for front_end in FRONT_ENDS},
}
WITH_THE_SANDBOX = ("nad_agents.cli.", "nad_agents.evaluation.scoring")
FOREIGN = {
    "nad_agents": {"langchain_core", "langchain", "llama_index", "fastapi", "starlette", "docker", "mcp"},
    "nad_sandbox": {"torch", "transformers", "langchain_core", "llama_index", "fastapi"},
    "langchain_nad": {"llama_index", "fastapi", "starlette"},
    "llama_index.llms.nad": {"langchain_core", "langchain", "fastapi", "starlette"},
    "nad_mcp": {"langchain_core", "langchain", "llama_index", "fastapi", "docker"},
    "nad_server": {"langchain_core", "langchain", "llama_index", "mcp"},
    "nad_inspect_ai": {"torch", "transformers", "langchain_core", "langchain", "llama_index"},
    "nad_smolagents": {"torch", "transformers", "langchain_core", "langchain", "llama_index"},
}
"""Packages of others that a package of ours must not need."""


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_only_what_it_may(package):
    for module in (name for name in modules() if package_of(name) == package):
        may = MAY_IMPORT[package] | {package}
        if module.startswith(WITH_THE_SANDBOX):
            may = may | {"nad_sandbox"}
        for name in imported(module):
            assert package_of(name) in {None, *may}, f"{module} imports {name}"


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_does_not_need_what_its_users_may_not_have(package):
    for module in (name for name in modules() if package_of(name) == package):
        foreign = {name.split(".")[0] for name in imported(module) if package_of(name) is None}
        # LlamaIndex is a namespace that our own package lies in
        allowed = {"llama_index"} if package == "llama_index.llms.nad" else set()
        assert not (foreign & FOREIGN[package]) - allowed, module


def test_no_two_modules_import_each_other_however_far_apart():
    graph = nx.DiGraph(
        (module, name) for module in modules() for name in imported(module) if name in modules() and name != module
    )
    circles = [sorted(group) for group in nx.strongly_connected_components(graph) if len(group) > 1]
    assert not circles
