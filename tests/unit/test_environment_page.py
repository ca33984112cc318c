"""The page of environment variables has every variable that the code reads or that a page or a message names."""

import re

import pytest

from tests.unit.sources import PACKAGES, ROOT

DOCS = ROOT / "docs"
LISTED = set(re.findall(r"`([A-Z][A-Z_]+)`", (DOCS / "how-to" / "environment.md").read_text(encoding="utf-8")))
ELSEWHERE = {"PATH", "PYTEST_DISABLE_PLUGIN_AUTOLOAD"}
"""The search path of every program, and a variable that is set inside of the sandbox."""


def used():
    """The variables that are read or set by name."""
    access = re.compile(r"environ(?:\.\w+\(|\[)\s*\"(\w+)\"|getenv\(\s*\"(\w+)\"")
    for folder in PACKAGES.values():
        for path in folder.rglob("*.py"):
            for names in access.findall(path.read_text(encoding="utf-8")):
                yield next(filter(None, names))


def named():
    """The variables of this project and of its dependencies in sources and on pages."""
    pages = [
        ROOT / "README.md",
        *DOCS.rglob("*.md"),
        *(path for folder in PACKAGES.values() for path in folder.rglob("*.py")),
    ]
    for path in pages:
        yield from re.findall(
            r"\b(?:DOCKER|HF|NAD|OPENAI|RAY|VLLM)_[A-Z_]{3,}(?==|`)", path.read_text(encoding="utf-8")
        )


def test_the_code_reads_some():
    assert {"NAD_CACHE_DIR", "NAD_API_KEY", "OPENAI_BASE_URL"} <= set(used())
    assert {"VLLM_PLUGINS", "RAY_AUTH_MODE"} <= set(named())


@pytest.mark.parametrize("find", [used, named])
def test_every_variable_is_on_the_page(find):
    assert not set(find()) - LISTED - ELSEWHERE
