"""Which steps of coding agents are the same, and which cannot be carried out, in the forms that agents know."""

import json

import pytest

from nad_agents.chat.edit_steps import ShownText, call_key, schema_fault, step_fault
from nad_agents.chat.response_parser import ToolCallParser
from nad_agents.chat.step_selector import StepSelector, shown_text
from nad_agents.selectors import MeanLogprob, rank
from tests.unit.builders import make_group, make_rollout

FILE = "def area(r):\n    return 3 * r\n\n\ndef main():\n    print(area(2))\n"
NUMBERED = "\n".join(f"{i:>5}\u2192{line}" for i, line in enumerate(FILE.splitlines(), 1))
PATCH = "*** Begin Patch\n*** Update File: a.py\n{}\n*** End Patch"
SHOWN = ShownText.of([f"I read it:\n{FILE}"])


def test_code_is_the_same_whatever_its_form():
    one = call_key("write", {"path": "a.py", "content": "x = 'a'  # first\n\ny = 2\n"})
    assert one == call_key("write", {"content": 'x = "a"\ny = 2', "path": "a.py"})
    assert one != call_key("write", {"path": "a.py", "content": "x = 'b'\n\ny = 2\n"})
    assert call_key("run", {"command": "ls", "why": "x"}, ["why"]) == call_key("run", {"command": "ls"})
    # words of one line each are no code, and prose is compared as it is
    assert call_key("say", {"text": "a\nb"}) != call_key("say", {"text": "(a)\nb"})
    assert call_key("add", {"x": 1, "of": [{"y": 20}]}) == call_key("add", {"of": [{"y": 2e1}], "x": 1.0})
    assert call_key("add", {"x": 1}) != call_key("add", {"x": 1.5})
    assert call_key("add", {"x": "1"}) != call_key("add", {"x": "1.0"})
    assert call_key("add", {"x": 1}) != call_key("add", {"x": True})
    assert call_key("say", {"text": "It is so. \nYes!"}) == call_key("say", {"text": "It is so.\nYes!\n"})


@pytest.mark.parametrize("shown", [SHOWN, ShownText.of([NUMBERED])], ids=["plain", "with line numbers"])
@pytest.mark.parametrize(
    ("name", "arguments", "fault"),
    [
        ("edit", {"filePath": "a.py", "oldString": "    return 3 * r", "newString": "    return 4 * r"}, None),
        ("edit", {"filePath": "a.py", "oldString": "return 3 * r\n\n\ndef main():", "newString": "x"}, None),
        ("edit", {"filePath": "a.py", "oldString": "    return 3*r\n", "newString": "x"}, "'oldString' is nowhere"),
        ("edit", {"file_path": "b.py", "old_string": "", "new_string": "x"}, None),
        ("replace", {"file_path": "a.py", "old_string": "def main():\n    area(2)"}, "'old_string' is nowhere"),
        ("write_to_file", {"path": "a.py", "content": "def f(:\n"}, "the Python in 'content' does not parse"),
        ("write_to_file", {"path": "a.txt", "content": "def f(:\n"}, None),
        (
            "replace_in_file",
            {"path": "a.py", "diff": "------- SEARCH\n    return 3 * r\n=======\n    return 4\n+++++++ REPLACE"},
            None,
        ),
        (
            "replace_in_file",
            {"path": "a.py", "diff": "<<<<<<< SEARCH\n    return 9 * r\n=======\n    return 4\n>>>>>>> REPLACE"},
            "SEARCH block is nowhere",
        ),
        (
            "apply_patch",
            {"input": PATCH.format("@@ def area\n-    return 3 * r\n+    return 4")},
            None,
        ),
        (
            "apply_patch",
            {"input": PATCH.format("@@\n def area(r):\n-    return 9\n+    return 4")},
            "the lines that the patch changes are nowhere",
        ),
        ("apply_patch", {"input": "*** Begin Patch\n*** Add File: b.py\n+x = 1\n*** End Patch"}, None),
        ("run", {"command": "pytest -q"}, None),
    ],
)  # fmt: skip
def test_edits_that_cannot_be_applied_are_named(shown, name, arguments, fault):
    found = step_fault("", [(name, arguments)], shown=shown)
    assert (
        (found is None) if fault is None else (found is not None and fault in found and found.startswith(f"{name}: "))
    )


def test_aiders_blocks_stand_in_the_text():
    block = "a.py\n```python\n<<<<<<< SEARCH\n{}\n=======\nx = 1\n>>>>>>> REPLACE\n```"
    assert step_fault(block.format("    return 3 * r"), [], shown=SHOWN) is None
    assert "SEARCH block" in step_fault(block.format("    return 9 * r"), [], shown=SHOWN)
    assert step_fault("Nothing to do.", [], shown=SHOWN) is None


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ({"path": "a", "count": 1}, None),
        ({"path": "a", "count": 1.0}, None),
        ({"path": "a", "count": 1.5}, "'count' is float"),
        ({"count": 1}, "'path' is missing"),
        ({"path": "a", "more": 1}, "there is no argument 'more'"),
        ({"path": 3}, "'path' is int instead of string"),
        ({"path": "a", "count": True}, "'count' is bool"),
        ({"path": "a", "count": None}, None),
        ({"path": "a", "mode": "z"}, "'mode' is none of"),
    ],
)
def test_arguments_fit_their_schema(arguments, fault):
    schema = {
        "properties": {
            "path": {"type": "string"},
            "count": {"type": ["integer", "null"]},
            "mode": {"enum": ["a", "b"]},
        },
        "required": ["path"],
        "additionalProperties": False,
    }
    found = schema_fault(arguments, schema)
    assert (found is None) if fault is None else fault in found


def test_what_a_conversation_shows_are_its_texts_and_the_files_that_calls_wrote():
    wrote = {"function": {"name": "write", "arguments": json.dumps({"path": "b.py", "content": "y = 1\nz = 2\n"})}}
    shown = shown_text(
        [
            {"role": "user", "content": [{"type": "text", "text": FILE}]},
            {"role": "assistant", "content": None, "tool_calls": [wrote]},
            {"role": "tool", "content": "done"},
        ]
    )
    assert shown.has("y = 1\nz = 2")
    assert shown.has("    return 3 * r")
    assert not shown.has("z = 2\ny = 1")


def call(**arguments):
    return json.dumps({"name": "edit", "arguments": arguments})


def test_equal_steps_vote_together_and_what_cannot_be_applied_comes_last():
    texts = [
        call(path="a.py", old_string="return 9", new_string="x"),  # likeliest, but nowhere
        call(path="a.py", old_string="return 3 * r", new_string="y"),
        call(path="a.py", old_string="return 3 * r", new_string="def f():\n    return 1  # so"),
        call(path="a.py", old_string="return 3 * r", new_string="def f():\n    return 1\n"),
        '{"name": "edit", "argu',
    ]
    group = make_group([make_rollout([[i]], tokens=[i], text=text, logprobs=-1.0 - i) for i, text in enumerate(texts)])
    selector = StepSelector(MeanLogprob(), ToolCallParser(names=("edit",)), SHOWN)
    scores = selector.score(group)
    assert rank(scores, group)[:3] == [2, 3, 1]
    steps = scores.details["steps"]
    assert steps[0] == {"candidates": [2, 3]}
    assert "nowhere in the conversation" in next(s["fault"] for s in steps if s["candidates"] == [0])
    assert selector.name == "mean_logprob"
    prose = make_group([make_rollout([[i]], tokens=[i], text="prose", logprobs=-1.0 - i) for i in range(3)])
    assert rank(selector.score(prose), prose) == [0, 1, 2]
    assert "steps" not in selector.score(prose).details
