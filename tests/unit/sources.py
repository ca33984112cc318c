"""The sources of the packages, and what each module imports."""

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "nad_agents": ROOT / "nad_agents",
    "nad_sandbox": ROOT / "sandbox" / "nad_sandbox",
    "langchain_nad": ROOT / "integrations" / "langchain_nad",
    "llama_index.llms.nad": ROOT / "integrations" / "llama_index" / "llms" / "nad",
    "nad_mcp": ROOT / "integrations" / "nad_mcp",
    "nad_inspect_ai": ROOT / "integrations" / "nad_inspect_ai",
    "nad_server": ROOT / "integrations" / "nad_server",
    "nad_smolagents": ROOT / "integrations" / "nad_smolagents",
}


def package_of(module):
    return next((name for name in PACKAGES if module == name or module.startswith(f"{name}.")), None)


@cache
def modules():
    """Every module of ours with its syntax tree."""
    found = {}
    for package, folder in PACKAGES.items():
        for path in folder.rglob("*.py"):
            inner = path.relative_to(folder).with_suffix("").as_posix().replace("/", ".")
            found[f"{package}.{inner}".removesuffix(".__init__")] = ast.parse(path.read_text(encoding="utf-8"))
    assert len(found) > 200
    return found


@cache
def imported(module):
    """Dotted names that a module imports, wherever in the file; for a module of ours that module, else as written."""
    found = []
    for node in ast.walk(modules()[module]):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.append(inner if inner in modules() else node.module)
    return found
