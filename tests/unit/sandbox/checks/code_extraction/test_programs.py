"""The program in an answer, however the model wrapped it."""

import ast
import textwrap
import time
from typing import ClassVar

import pytest
from nad_sandbox.checks import guarded_parse
from nad_sandbox.checks.code_extraction import LONGEST_PROGRAM, extract_code, extract_programs, programs
from nad_sandbox.checks.fingerprint import normalize_program

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
    assert normalize_program(extract_code(answer)) == normalize_program(ADD)


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


def test_deep_nesting_does_not_crash():
    deep = "x = " + "(" * 5000 + ")" * 5000
    assert extract_code(deep)


def added(program):
    """What a program's `add` makes of 1 and 2; the error's name when it cannot be loaded or called."""
    scope = {"__name__": "candidate"}
    try:
        exec(compile(program, "candidate.py", "exec", dont_inherit=True), scope)
        return scope["add"](1, 2)
    except BaseException as error:  # noqa: BLE001 - whatever an answer does
        return type(error).__name__


@pytest.mark.parametrize(
    "use",
    [
        "from solution import add\nassert add(1, 2) == 3",
        "from my_module import add\n\nprint(add(1, 2))",
        "from your_module import *\nadd(1, 2)",
        "import my_module\nprint(my_module.add(1, 2))",
        "result = add(x, y)",
        "x = int(next(iter([])))\nprint(add(x, x))",
        "import no_such_test_library\n\ndef test_add():\n    assert add(1, 2) == 3",
        "assert add(1, 2) == 4",
        "import unittest\nclass TestAdd(unittest.TestCase):\n    pass\nraise SystemExit",
        "def main():\n    print(add(int('?'), 1))\n\nmain()",
        "import no_such_library as lib\n\ndef fast_add(a, b):\n    return lib.add(a, b)",
        "def add(a, b):\n    ...",
        "add(1, 2) -> 3",
        "return a + b",
    ],
)
@pytest.mark.parametrize(
    "shape",
    [
        "```python\n{add}```\nUsage:\n```python\n{use}\n```",
        "```\n{add}```\nUsage:\n```\n{use}\n```",
        "```\n{add}```\nUsage:\n```python\n{use}\n```",
        "You call it so:\n```python\n{use}\n```\nHere it is:\n```python\n{add}```",
        "Here it is:\n\n{add}\nYou call it like this:\n\n{use}\n\nThat is all there is.",
    ],
    ids=["labelled", "bare", "one labelled", "use first", "no fences"],
)
def test_the_defining_block_alone_is_one_of_the_programs(shape, use):
    programs = extract_programs(shape.format(add=ADD, use=use))
    assert 3 in map(added, programs)
    assert len(programs) <= 3


def test_a_block_that_imports_what_another_defines_is_no_part_of_the_first_program():
    answer = f"```python\n{ADD}```\n```python\nfrom solution import add\n\nprint(add(1, 2))\n```"
    assert extract_programs(answer)[0] == ADD


def test_a_script_in_two_blocks_stays_whole_in_the_first_program():
    answer = f"```python\n{ADD}```\nRead the numbers:\n```python\na = int(input())\nprint(add(a, 1))\n```"
    assert "int(input())" in extract_code(answer)


def test_of_two_solutions_the_later_counts_and_an_earlier_that_it_replaces_does_not():
    answer = f"```python\ndef add(a, b):\n    return a - b\n```\nBetter:\n```python\n{ADD}```"
    assert extract_programs(answer) == (ADD,)


@pytest.mark.parametrize(
    "rest",
    [
        "def other(x):\n    if x >",
        'def other(x):\n    """This is',
        "print('The sum is",
        "assert add(1, 2) == 3\nassert add(",
        "@property\ndef x",
        'if __name__ == "__main__":\n    print(add(1,',
        "This function adds two numbers.",
    ],
)
def test_a_program_that_was_cut_counts_up_to_its_last_whole_statement(rest):
    for answer in (f"```python\n{ADD}\n{rest}", f"{ADD}\n{rest}", f"Here:\n\n{ADD}\n{rest}"):
        assert added(extract_code(answer)) == 3, answer


def test_a_syntax_error_in_a_closed_block_is_not_cut_away():
    assert added(extract_code(f"```python\n{ADD}\ndef other(:\n    pass\n```")) == "SyntaxError"


def test_a_block_that_may_be_of_a_newer_python_is_kept_beside_one_that_parses():
    newer = "def first(xs):\n    some syntax of a later version\n"
    programs = extract_programs(f"```python\n{newer}```\n```python\nprint(1)\n```")
    assert programs[0] == newer


@pytest.mark.parametrize(
    "answer",
    [
        f"Solution\n\n{ADD}\nExplanation\n",
        f"Answer: code\n{ADD}",
        f"Solution (Python)\n\n{ADD}\nUsage: add(1, 2)\n",
        f"Here is the code:\n{ADD}\nNote: this works.\n",
        f"<code>\n{ADD}</code>",
        f"<answer>{ADD}</answer>",
        f"[PYTHON]\n{ADD}[/PYTHON]",
        "You can write `def add(a, b): return a + b` for it.",
        "First a helper:\n\ndef same(a):\n    return a\n\nThen:\n\ndef add(a, b):\n    return same(a) + b\n\nDone.",
    ],
)
def test_bare_code_between_prose_is_found(answer):
    assert added(extract_code(answer)) == 3


def test_an_answer_that_is_too_long_is_given_back():
    answer = "x" * (LONGEST_PROGRAM + 1)
    assert extract_programs(answer) == (answer,)


class TestTheLongestAnswers:
    """However an answer is made, so many characters are parsed as four programs of the longest length have."""

    LONGEST = 20_000
    CODE = "def f(x):\n    y = [x, 1]\n    return {'y': y}\n\n"
    KINDS: ClassVar = {
        "prose between lines of code": "x = 1\nThis is prose\n",
        "decorators": "@x\n",
        "entities": "x = 1 &lt; 2\n",
        "blocks": f"```python\n{CODE}```\n",
        "blocks in strings": "```python\nx = '''\n```\n",
        "no-break spaces": "x\u00a0= 1\n",
        "broken lines": "x = (\n",
        "remarks": "Explanation\nx = 1\n",
        "continued lines": "\\\n",
        "stars": "from x import *\n",
    }

    @pytest.fixture
    def parsed(self, monkeypatch):
        lengths = []
        monkeypatch.setattr(programs, "_MOST_PARSED", 4 * self.LONGEST)
        parse = guarded_parse._parse
        monkeypatch.setattr(guarded_parse, "_parse", lambda text, mode: lengths.append(len(text)) or parse(text, mode))
        return lengths

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("prompt", ["", "class A:\n    def f(self):\n        ..."])
    def test_the_parser_gets_four_times_as_much_at_most(self, kind, prompt, parsed):
        text = self.KINDS[kind]
        assert extract_programs(text * (self.LONGEST // len(text)), prompt)
        assert 0 < sum(parsed) <= 4 * self.LONGEST

    def test_a_program_is_found_in_full(self, parsed):
        program = (self.CODE * (self.LONGEST // len(self.CODE)))[:-50].rpartition("\n\n")[0]
        assert extract_code(f"```python\n{program}\n```").strip() == program
        assert sum(parsed) <= 3 * self.LONGEST


@pytest.mark.parametrize(
    "text", ["```\n", "```python\nx = 1\n```\n", "x = (\n", ">>> x\n", "'''\n", "@a\n", "a &lt; b\n", "> ```\n"]
)
def test_no_answer_takes_long(text):
    long = text * (30_000 // len(text))
    started = time.process_time()
    extract_programs(long, long)
    assert time.process_time() - started < 5
