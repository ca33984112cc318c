"""The Python in README, docs and docstrings runs: on the default model with few candidates, or on scripted decoders."""

import ast
import asyncio
import inspect
import re
import textwrap
from pathlib import Path

import pytest

from nad_agents.models import DEFAULT_MODEL

ROOT = Path(__file__).parents[2]
_INDENTED = re.compile(r"\.\. code-block:: python\n\n((?:[ ]+\S.*\n|\s*\n)+)")


def run_blocks(path, names, change=str):
    """Run the blocks of Python of a page one after the other, in one namespace; returns how many there are."""
    text = path.read_text(encoding="utf-8")
    blocks = list(re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    for block in blocks:
        # so that a traceback names the line of the page
        line = text[: block.start(1)].count("\n")
        exec(compile("\n" * line + change(block[1]), path.name, "exec"), names)
    return len(blocks)


def quick(code: str) -> str:
    """The same code with a small model, few candidates and short answers."""
    code = re.sub(r"Qwen/Qwen2\.5-Coder-1\.5B-Instruct", DEFAULT_MODEL, code)
    return re.sub(r"\bn=16\b", "n=2, max_new_tokens=48", code)


def docstring_examples():
    for path in sorted((ROOT / "integrations" / "langchain_nad").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                for found in _INDENTED.findall((ast.get_docstring(node) or "") + "\n"):
                    yield pytest.param(textwrap.dedent(found), id=f"{path.stem}.{getattr(node, 'name', 'module')}")


EXAMPLES = list(docstring_examples())


def test_the_readme_runs_from_top_to_bottom():
    names = {}
    try:
        assert run_blocks(ROOT / "README.md", names, quick) >= 7
        assert names["person"].name is not None
        assert names["mood"].text in {"good", "bad"}
        assert re.fullmatch(r"\d{4}-\d{2}-\d{2}", names["date"].text)
        assert names["call"]["name"] == "multiply"
        assert names["answer"].response_metadata["nad"]["steps"]
    finally:
        if "sandbox" in names:
            names["sandbox"].close()


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.name)
def test_the_tests_of_a_page_pass(page):
    names = {}
    run_blocks(page, names)
    tests = [function for name, function in names.items() if name.startswith("test_")]
    assert tests or page.name != "testing.md"
    for test in tests:
        asyncio.run(test()) if inspect.iscoroutinefunction(test) else test()


def test_the_main_classes_have_examples():
    assert {"NADChatModel", "NADStepSelection", "PythonSandboxTool"} <= {e.id.split(".")[1] for e in EXAMPLES}


@pytest.mark.parametrize("code", EXAMPLES)
def test_the_example_of_a_docstring_runs(code):
    exec(compile(quick(code), "docstring", "exec"), {})
