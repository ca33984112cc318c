"""The program in an answer, however the model wrapped it."""

import ast
import textwrap

import pytest
from nad_sandbox.checks.code_extraction import extract_code
from nad_sandbox.checks.fingerprint import normalise_program

ADD = "def add(a, b):\n    return a + b\n"


@pytest.mark.parametrize(
    "answer",
    [
        f"```python\n{ADD}```",
        f"```py\n{ADD}```\nThis adds.",
        f"Sure! Here it is:\n\n```Python\n{ADD}\n```\n\nIt works as follows ...",
        f"~~~python\n{ADD}~~~",
        f"```\n{ADD}```",
        f"```python\n{ADD}",
        f'Here:\n```python title="x"\n{ADD}```',
        ADD,
        f"Here is the function:\n\n{ADD}\nIt adds two numbers, e.g. 1 and 2.",
        textwrap.indent(f"```python\n{ADD}```", "  "),
        f"```bash\npip install x\n```\n```python\n{ADD}```",
        f"Draft:\n```python\ndef add(a, b):\n    return a - b\n```\nFixed:\n```python\n{ADD}```",
        f"````python\n{ADD}````",
    ],
)
def test_the_program_is_found(answer):
    assert normalise_program(extract_code(answer)) == normalise_program(ADD)


def test_several_blocks_are_one_program():
    answer = (
        f"First the helper:\n```python\nimport math\ndef half(x):\n    return x / 2\n```\nthen\n```python\n{ADD}```"
    )
    names = {n.name for n in ast.parse(extract_code(answer)).body if isinstance(n, ast.FunctionDef)}
    assert names == {"half", "add"}


def test_a_block_that_does_not_parse_is_left_out_beside_one_that_does():
    assert extract_code(f"```python\n{ADD}```\n```python\n>>> add(1, 2)\n3\n```") == ADD


def test_a_body_is_completed_by_the_prompts_signature():
    prompt = 'from typing import List\n\ndef total(xs: List[int]) -> int:\n    """Sum."""\n'
    code = extract_code("    return sum(xs)\n", prompt)
    scope = {}
    exec(code, scope)
    assert scope["total"]([1, 2]) == 3
    assert extract_code("```python\nreturn sum(xs)\n```", prompt).endswith("    return sum(xs)\n")


def test_an_answer_cut_by_the_token_limit_keeps_what_is_there():
    assert extract_code("```python\ndef f(x):\n    if x >").startswith("def f(x):")


@pytest.mark.parametrize("answer", ["I do not know.", "Yes", "```\n```", "42"])
def test_an_answer_without_code_is_given_back_for_the_syntax_check(answer):
    assert extract_code(answer) == answer


def test_a_blank_answer_is_empty():
    assert extract_code("  \n") == ""


def test_programs_that_differ_in_form_alone_are_equal():
    other = "# adds\ndef add( a,b ):\n    '''Add.'''\n    return (a+b)"
    assert normalise_program(ADD) == normalise_program(other)
    assert normalise_program(ADD) != normalise_program(ADD.replace("+", "-"))
    assert normalise_program("def f(:  \n  x ") == "def f(:\n  x"


def test_deep_nesting_does_not_crash():
    deep = "x = " + "(" * 5000 + ")" * 5000
    assert extract_code(deep)
    assert normalise_program(deep)
