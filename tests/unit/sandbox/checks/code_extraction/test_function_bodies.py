"""Answers that are the rest of a function or class, however they are indented and whatever follows them."""

import textwrap

import pytest
from nad_sandbox.checks.code_extraction import extract_code
from nad_sandbox.checks.code_extraction.function_bodies import completed

PROMPT = '''from typing import List


def total(xs: List[int]) -> int:
    """Sum of the positive numbers.
    >>> total([1, -2])
    1
    """
'''
BODY = """result = 0
    for x in xs:
        if x > 0:
            result += x
    return result
"""
EMPTY_STACK = 'class Stack:\n    """A stack."""\n'
STACK = (
    EMPTY_STACK + "\n    def __init__(self):\n        self.items = []\n\n    def push(self, x):\n        '''Push.'''\n"
)
SOLUTION = "class Solution:\n    def twoSum(self, nums: List[int], target: int) -> List[int]:\n"


def loaded(answer, prompt=PROMPT):
    scope = {"__name__": "candidate"}
    exec(compile(extract_code(answer, prompt), "candidate.py", "exec", dont_inherit=True), scope)
    return scope


@pytest.mark.parametrize(
    "shape", ["{body}", "```python\n{body}```", "```\n{body}```", "{body}```\nThis sums.", "```python\n{body}"]
)
@pytest.mark.parametrize("uniform", [False, True])
@pytest.mark.parametrize("width", [0, 1, 2, 3, 4, 5, 8])
def test_a_body_may_be_indented_by_any_width_wholly_or_but_for_its_first_line(width, uniform, shape):
    body = textwrap.indent(textwrap.dedent(f"    {BODY}"), " " * width) if uniform else " " * width + BODY
    assert loaded(shape.format(body=body))["total"]([1, -2, 4]) == 5


@pytest.mark.parametrize("width", [0, 1, 3, 4])
@pytest.mark.parametrize(
    "rest",
    [
        "This function sums the positive numbers.",
        "assert total([1]) == 1\nprint('ok')",
        'if __name__ == "__main__":\n    print(total(list(map(int, input().split()))))',
        "def other(x):\n    if x >",
        "def other(x):\n    return x",
    ],
)
def test_what_follows_a_body_does_not_spoil_it(rest, width):
    assert loaded(f"{' ' * width}{BODY}\n\n{rest}\n")["total"]([1, -2, 4]) == 5


@pytest.mark.parametrize(
    "body",
    [
        "return sum(x for x in xs if x > 0)",
        "if xs is None:\n        return 0\n    return sum(x for x in xs if x > 0)",
        "try:\n        return sum(x for x in xs if x > 0)\n    except TypeError:\n        return 0",
        "\tresult = 0\n\tfor x in xs:\n\t\tif x > 0:\n\t\t\tresult += x\n\treturn result\n",
        "   return sum(\n       x for x in xs\n       if x > 0\n   )",
    ],
)
def test_a_first_line_may_open_a_block_or_be_the_only_one(body):
    assert loaded(body)["total"]([1, -2, 4]) == 5


def test_statements_that_read_the_parameters_are_a_body_though_they_could_be_a_script():
    scope = loaded("for x in xs:\n    seen.append(x)", "seen = []\n\n\ndef collect(xs):\n    '''Collect.'''\n")
    scope["collect"]([1, 2])
    assert scope["seen"] == [1, 2]


@pytest.mark.parametrize(
    "prompt",
    [
        f"Complete this function:\n\n```python\n{PROMPT}```\n\nGive the body alone.",
        f"Complete:\n```python\n{PROMPT}    pass\n```\n",
        f"{PROMPT}    raise NotImplementedError\n",
        f"{PROMPT}    # your code here\n",
        f"{PROMPT}\nWrite the body.\n",
        "import functools\n\n@functools.wraps(sum)\ndef total(xs):\n    '''Sum.'''\n",
        "def total(\n    xs: list,\n) -> int:\n    '''Sum.'''\n",
        "def total(xs):\n",
        "Write it.\n\ndef total(xs):\n    '''Sum.'''\n",
    ],
)
def test_a_signature_may_stand_in_a_fence_above_a_placeholder_or_between_prose(prompt):
    assert loaded("    return sum(x for x in xs if x > 0)\n", prompt)["total"]([1, -2, 4]) == 5


def test_the_prompts_helpers_and_its_own_indentation_are_kept():
    prompt = "def half(x):\n  return x / 2\n\n\ndef add(a, b):\n  '''Add.'''\n"
    assert loaded("result = half(a) + half(a)\n  return result + b", prompt)["add"](1, 2) == 3


def test_an_asynchronous_function_is_completed():
    assert "async def add" in extract_code("    return a + b", "async def add(a, b):\n    '''Add.'''\n")


@pytest.mark.parametrize("prompt", [EMPTY_STACK, f"```python\n{EMPTY_STACK}```\n"])
@pytest.mark.parametrize("width", [0, 4])
def test_methods_go_into_the_class_that_the_prompt_begins(prompt, width):
    methods = "def __init__(self):\n    self.items = []\n\ndef push(self, x):\n    self.items.append(x)\n    return 1\n"
    assert loaded(textwrap.indent(methods, " " * width), prompt)["Stack"]().push(5) == 1


@pytest.mark.parametrize(
    "answer",
    [
        "self.items.append(x)\n        return len(self.items)",
        "        self.items.append(x)\n        return len(self.items)\n\n    def pop(self):\n        return None\n",
        "```python\n    def push(self, x):\n        self.items.append(x)\n        return 1\n```",
    ],
)
def test_the_body_of_a_method_goes_into_its_class(answer):
    assert loaded(answer, STACK)["Stack"]().push(5) == 1


@pytest.mark.parametrize(
    "answer",
    [
        "        return [0, 1]\n",
        "return [0, 1]\n",
        "```python\ndef twoSum(self, nums, target):\n    return [0, 1]\n```",
        "```python\nclass Solution:\n    def twoSum(self, nums, target):\n        return [0, 1]\n```",
    ],
)
@pytest.mark.parametrize("prompt", [SOLUTION, f"Solve this:\n```python\n{SOLUTION}```\n"])
def test_a_method_of_a_class_without_a_body_is_completed(prompt, answer):
    assert loaded(answer, prompt)["Solution"]().twoSum([3, 4], 7) == [0, 1]


@pytest.mark.parametrize("body", ["", "  \n", "I do not know.", "def total(xs):"])
def test_what_is_no_body_completes_nothing(body):
    assert completed(body, PROMPT) is None
    assert completed("return 1", "no function here") is None
