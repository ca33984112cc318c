"""Fences as models write them: labels, indentation, nesting, and those that are missing."""

import textwrap

import pytest
from nad_sandbox.checks.code_extraction import extract_code
from nad_sandbox.checks.code_extraction.markdown_blocks import fenced_blocks

ADD = "def add(a, b):\n    return a + b\n"
WITH_FENCE = 'def add(a, b):\n    """Add.\n\n    {fence}\n    add(1, 2)\n    ```\n    """\n    return a + b\n'


def added(answer, prompt=""):
    scope = {}
    exec(compile(extract_code(answer, prompt), "candidate.py", "exec", dont_inherit=True), scope)
    return scope["add"](1, 2)


@pytest.mark.parametrize(
    "label",
    [
        "python", "python3", "py", "py3", "Python", "PYTHON", " python", "Python 3", "python3.11", "{.python}",
        "{python}", "{.python .numberLines}", 'python title="add.py"', "python:add.py", "python {linenos=true}",
        "python,ignore",        "lang-python", "language-python", "ipython", "python=", "code", "plaintext", "",
    ],
)  # fmt: skip
@pytest.mark.parametrize("mark", ["```", "~~~", "````", "~~~~~"])
def test_a_label_may_be_written_in_many_ways(label, mark):
    assert added(f"Here it is:\n{mark}{label}\n{ADD}{mark}\nThis adds.") == 3


@pytest.mark.parametrize(
    "answer",
    [
        f"{ADD}```",
        f"{ADD}~~~\nThis adds.",
        f"{ADD}```\n\nThis function adds two numbers.\n",
        f"{ADD}```\n\nYou use it so:\n```python\nprint(add(1, 2))\n```\n",
        f"Here is the code:\n\n{ADD}```\nThis adds.",
        f"```python\n{ADD}```python\nThis adds.",
        "```python\ndef add(a, b):\n    return a + b```",
        "```python\ndef add(a, b):\n    return a + b```\nThis adds.",
        f"```python\n{ADD}``` This adds.\nIt does.",
        f"```python\n{ADD}``````\nThis adds.",
        f"```\n```python\n{ADD}```",
    ],
)
def test_a_fence_may_be_missing_or_misplaced(answer):
    assert added(answer) == 3


@pytest.mark.parametrize("fence", ["```", "```python", "~~~\n    ~~~\n    ```"])
@pytest.mark.parametrize(
    "shape", ["{code}", "```python\n{code}```", "Here it is:\n\n{code}\nIt adds.", "{code}```\nIt adds."]
)
def test_a_fence_that_is_indented_by_four_in_a_docstring_is_text(shape, fence):
    assert added(shape.format(code=WITH_FENCE.format(fence=fence))) == 3


def test_a_fence_at_the_beginning_of_a_line_in_a_string_is_text():
    assert added(f'```python\n"""Module.\n```\nx\n```\n"""\n{ADD}```\nIt adds.') == 3


@pytest.mark.parametrize(
    "answer",
    [
        f"1. First:\n\n   ```python\n{textwrap.indent(ADD, '   ')}   ```\n\n2. Done",
        f"1. First:\n\n    ```python\n{textwrap.indent(ADD, '    ')}    ```\n\n2. Done",
        f"- a\n    - b:\n\n        ```python\n{textwrap.indent(ADD, '        ')}        ```\n",
        f"- ```python\n{textwrap.indent(ADD, '  ')}  ```\n",
        f"1. First:\n   ```python\n{ADD}   ```\n",
        textwrap.indent(f"```python\n{ADD}```", "\t"),
        textwrap.indent(f"```python\n{ADD}```", "> "),
        textwrap.indent(f"Code:\n```python\n{ADD}```", "    "),
    ],
)
def test_a_block_may_lie_in_a_list_or_a_quotation(answer):
    assert added(answer) == 3


@pytest.mark.parametrize(
    "answer",
    [
        f"````markdown\n# Title\n```python\n{ADD}```\n````",
        "```python def add(a, b):\n    return a + b\n```",
        "```def add(a, b):\n    return a + b\n```",
        "```def add(a, b): return a + b```",
        "```python def add(a, b): return a + b```",
    ],
)
def test_blocks_in_blocks_and_code_beside_a_fence_are_found(answer):
    assert added(answer) == 3


@pytest.mark.parametrize("label", ["", "text", "output", "bash", "json"])
def test_the_output_of_a_program_is_no_part_of_it(label):
    answer = f"```python\n{ADD}print(add(1, 2))\n```\nOutput:\n```{label}\n3\n```"
    assert extract_code(answer) == f"{ADD}print(add(1, 2))\n"


def test_blocks_know_their_language_and_whether_they_were_closed():
    found = fenced_blocks("```bash\nls\n```\n~~~\nx\n~~~\n```pycon\n>>> x\n```\n```py\ny = 1\n")
    assert [(block.language, block.closed) for block in found] == [
        ("bash", True),
        ("", True),
        ("session", True),
        ("python", False),
    ]
