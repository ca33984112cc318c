"""The Python in README, docs and docstrings runs: on the default model with few candidates, or on scripted decoders.

The commands of `nad` on the pages are parsed by its own parsers.
"""

import ast
import asyncio
import inspect
import json
import re
import textwrap
from pathlib import Path

import pytest

from nad_agents.models import DEFAULT_MODEL
from tests.integration.page_blocks import python_blocks, run_page

ROOT = Path(__file__).parents[2]
ELSEWHERE = ("inspect-ai.md",)
"""Pages that tests/inspect runs."""
PAGES = [
    page
    for page in sorted((ROOT / "docs").rglob("*.md"))
    if page.name not in ELSEWHERE and python_blocks(page.read_text(encoding="utf-8"))
]
_INDENTED = re.compile(r"\.\. code-block:: python\n\n((?:[ ]+\S.*\n|\s*\n)+)")


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


def test_the_readme_runs_from_top_to_bottom(monkeypatch):
    names = {"__name__": "page"}
    try:
        run_page(ROOT / "README.md", monkeypatch, names, quick)
        assert names["selection"].ranking[0] in {0, 1}
        assert names["answer"].response_metadata["nad"]["verification"]["checked"] >= 1
    finally:
        if "sandbox" in names:
            names["sandbox"].close()


@pytest.fixture
def current_loop():
    """An event loop for calls that take the thread's, as LlamaIndex's synchronous ones do, which would leave theirs."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()


@pytest.mark.usefixtures("current_loop")
# LlamaIndex' agents look at deprecated attributes of pydantic
@pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20")
@pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince211")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT / "docs").as_posix())
def test_the_python_of_a_page_runs(page, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    names = run_page(page, monkeypatch)
    tests = [function for name, function in names.items() if name.startswith("test_")]
    assert tests or page.name != "testing.md"
    for test in tests:
        asyncio.run(test()) if inspect.iscoroutinefunction(test) else test()


def test_the_cells_of_the_notebook_run(monkeypatch):
    notebook = json.loads((ROOT / "examples" / "langchain.ipynb").read_text(encoding="utf-8"))
    code = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(code) >= 5
    names = {}
    for number, source in enumerate(code):
        compiled = compile(quick(source), f"cell {number}", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        result = eval(compiled, names)
        if inspect.iscoroutine(result):
            asyncio.run(result)


def test_the_main_classes_have_examples():
    assert {"NADChatModel", "NADStepSelection", "PythonSandboxTool"} <= {e.id.split(".")[1] for e in EXAMPLES}


@pytest.mark.parametrize("code", EXAMPLES)
def test_the_example_of_a_docstring_runs(code):
    exec(compile(quick(code), "docstring", "exec"), {})
