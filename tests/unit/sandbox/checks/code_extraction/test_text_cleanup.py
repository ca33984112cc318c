"""What is taken off before a program is looked for: thoughts, line ends, prompts of sessions, strange characters."""

import pytest
from nad_sandbox.checks.code_extraction import extract_code
from nad_sandbox.checks.code_extraction.text_cleanup import visible_answer

ADD = "def add(a, b):\n    return a + b\n"


def scope_of(answer):
    scope = {}
    exec(compile(extract_code(answer), "candidate.py", "exec", dont_inherit=True), scope)
    assert scope["add"](1, 2) == 3
    return scope


@pytest.mark.parametrize(
    "thought",
    [
        "<think>\nLet me see:\n```python\ndef add(a, b):\n    return a - b\n```\n</think>\n",
        "Let me see\n```python\nwrong\n</think>\n\n",
        "<thinking>so ```python\nx```</thinking>\n",
        "[THINK]so ```python\nx = 1\n```[/THINK]\n",
        "<|channel|>analysis<|message|>```python\nx\n```<|end|><|start|>assistant<|channel|>final<|message|>",
    ],
)
def test_what_was_thought_first_does_not_count(thought):
    scope_of(f"{thought}```python\n{ADD}```")
    scope_of(f"{thought}{ADD}")


def test_a_tag_in_a_string_is_no_thought():
    scope_of("```python\ndef add(a, b):\n    tag = '</think>'\n    return a + b\n```")
    assert visible_answer("x<|im_end|>") == "x"


@pytest.mark.parametrize(
    "session",
    [
        ">>> def add(a, b):\n...     return a + b\n...\n>>> add(1, 2)\n3\n",
        ">>> import math\n>>> def add(a, b):\n...     return a + b\n... \n>>> add(1, 2)\n3\n",
        ">>> def add(a, b):\n>>>     return a + b\n",
        "In [1]: def add(a, b):\n   ...:     return a + b\n   ...:\n\nIn [2]: add(1, 2)\nOut[2]: 3\n",
    ],
)
@pytest.mark.parametrize("shape", ["```pycon\n{}```", "```python\n{}```", "```\n{}```", "{}"])
def test_the_prompts_of_a_session_go(session, shape):
    scope_of(shape.format(session))


def test_a_session_below_a_program_is_no_part_of_it():
    assert extract_code(f"```python\n{ADD}\n>>> add(1, 2)\n3\n```") == ADD
    assert extract_code(f"```python\n{ADD}```\n```pycon\n>>> add(1, 2)\n3\n```") == ADD
    scope_of("Here:\n\n>>> def add(a, b):\n...     return a + b\n...\n>>> add(1, 2)\n3\n")


@pytest.mark.parametrize(
    "code",
    [
        "\ufeff" + ADD,
        ADD.replace("    ", "\u00a0" * 4),
        ADD.replace(" ", "\u00a0"),
        ADD.replace("    ", "\u3000" * 4),
        ADD.replace("return", "\u200breturn"),
        ADD.replace("\n", "\r\n"),
        ADD.replace("\n", "\r"),
        "def add(a, b):\n    \u201cAdd.\u201d\n    return a + b\n",
        "def add(a, b):\n    if a &lt; b and b &gt; 0:\n        return a + b\n    return a + b\n",
        "def add(a, b):\n    less = a &lt; b\n    return a + b\n",
        "def add(a, b):\n    &quot;&quot;&quot;Add.&quot;&quot;&quot;\n    return a + b\n",
    ],
)
@pytest.mark.parametrize("shape", ["```python\n{}```", "{}"])
def test_characters_that_are_not_pythons_are_replaced(code, shape):
    scope_of(shape.format(code))


def test_characters_in_strings_stay():
    scope = scope_of(f"```python\nX = 'a\u00a0b\u201cc\u201d&lt;'\n{ADD}```")
    assert scope["X"] == "a\u00a0b\u201cc\u201d&lt;"
    scope = scope_of("```python\nX = 'a\u00a0b'\n" + ADD.replace("    ", "\u00a0" * 4) + "```")
    assert scope["X"] == "a\u00a0b"
