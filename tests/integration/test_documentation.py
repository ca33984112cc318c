"""The Python in README and docstrings runs, on the default model and with few candidates."""

import ast
import re
import textwrap
from pathlib import Path

import pytest

from nad_agents.models import DEFAULT_MODEL

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
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


def test_the_readme_runs_from_top_to_bottom():
    assert len(BLOCKS) >= 7
    names = {}
    try:
        for block in BLOCKS:
            line = README.split(block)[0].count("\n")
            # so that a traceback names the place in the README
            exec(compile("\n" * line + quick(block), "README.md", "exec"), names)
        assert names["person"].name is not None
        assert names["mood"].text in {"good", "bad"}
        assert re.fullmatch(r"\d{4}-\d{2}-\d{2}", names["date"].text)
        assert names["call"]["name"] == "multiply"
        assert names["generate"].response_metadata["nad"]["steps"]
    finally:
        if "sandbox" in names:
            names["sandbox"].close()


def test_the_main_classes_have_examples():
    assert {"chat_models.NADChatModel", "agents.NADStepSelection", "code_agents.PythonSandboxTool"} <= {
        example.id for example in EXAMPLES
    }


@pytest.mark.parametrize("code", EXAMPLES)
def test_the_example_of_a_docstring_runs(code):
    exec(compile(quick(code), "docstring", "exec"), {})
