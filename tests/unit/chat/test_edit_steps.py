"""Which steps of coding agents are the same, and which cannot be carried out, in the forms that agents know."""

import json

import pytest

from nad_agents.chat.edit_steps import call_key, last_look, schema_fault, step_fault, step_key
from nad_agents.chat.response_parser import ToolCallParser
from nad_agents.chat.shown_text import ShownText
from nad_agents.chat.step_selector import StepSelector
from nad_agents.selectors import MeanLogprob, rank
from tests.unit.builders import make_group, make_rollout

FILE = "def area(r):\n    return 3 * r\n\n\ndef main():\n    print(area(2))\n"
NUMBERED = "\n".join(f"{i:>5}\u2192{line}" for i, line in enumerate(FILE.splitlines(), 1))
CAT = "\n".join(f"{i:>6}\t{line}" for i, line in enumerate(FILE.splitlines(), 1))
BARS = "\n".join(f"{i:05}| {line}" for i, line in enumerate(FILE.splitlines(), 1))
GREP = "\n".join(f"{i}:{line}" for i, line in enumerate(FILE.splitlines(), 1))
PATCH = "*** Begin Patch\n*** Update File: a.py\n{}\n*** End Patch"
UNIFIED = "--- a/a.py\n+++ b/a.py\n@@ -1,2 +1,2 @@\n def area(r):\n"
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


@pytest.mark.parametrize(
    "shown",
    [SHOWN, *(ShownText.of([text]) for text in (NUMBERED, CAT, BARS, GREP))],
    ids=["plain", "arrows", "cat -n", "bars", "grep -n"],
)
@pytest.mark.parametrize(
    ("name", "arguments", "fault"),
    [
        ("edit", {"filePath": "a.py", "oldString": "    return 3 * r", "newString": "    return 4 * r"}, None),
        ("edit", {"filePath": "a.py", "oldString": "return 3 * r\n\n\ndef main():", "newString": "x"}, None),
        ("edit", {"filePath": "a.py", "oldString": "\treturn 3 * r\n\n\ndef main():\n  print("}, None),
        ("edit", {"file_path": "a.py", "old_string": "return 3 * r\n\n\ndef main():\n    pri"}, None),
        ("edit", {"file_path": "a.py", "old_string": "def area(r):\n  return 3 * r", "new_string": "x"}, "is nowhere"),
        ("edit", {"path": "a.py", "edits": [{"oldText": "return 3", "newText": ""}]}, None),
        ("edit", {"path": "a.py", "edits": [{"oldText": "return 3"}, {"oldText": "gone", "newText": ""}]},
         "'oldText' is nowhere"),
        ("grep", {"search": "not there", "path": "a.py"}, None),
        ("edit", {"file_path": "b.py", "old_string": "", "new_string": "def f(:"}, "'b.py' does not parse"),
        ("write", {"path": "a.py", "content": "\ufeffx = 1\n"}, None),
        ("write", {"path": "a.py", "content": "x = (" * 5000}, "does not parse"),
        ("write", {"path": "a.py", "content": "x = 1\n" * 50_000}, None),
        ("python", {"code": "print('a'"}, "does not parse"),
        ("run_javascript", {"code": "let a = {b: 1}"}, None),
        ("shell", {"command": ["bash", "-lc", "apply_patch <<'EOF'\n" + PATCH.format("@@\n-    gone") + "\nEOF"]},
         "the lines that the patch changes"),
        ("apply_patch", {"input": PATCH.format("@@\n     return 3 * r\n\n\n-def main():\n+def run():")}, None),
        ("apply_patch", {"input": PATCH.format("*** Move to: b.py\n@@\n-gone\n+x")}, "the lines that the patch"),
        ("apply_patch", {"input": "*** Begin Patch\n*** Add File: b.py\n+def f(:"}, "'b.py' does not parse"),
        ("patch", {"diff": UNIFIED + "-    return 3 * r\n+    return 4"}, None),
        ("patch", {"diff": UNIFIED + "-    gone\n+    return 4"},
         "the lines that the patch"),
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


CLINE = "I change it.\n<replace_in_file>\n<path>a.py</path>\n<diff>\n{}\n</diff>\n</replace_in_file>"
DIFF = "------- SEARCH\n    return {} * r\n=======\n    return {}\n+++++++ REPLACE"


def test_clines_calls_stand_in_the_text():
    assert step_fault(CLINE.format(DIFF.format(3, 4)), [], shown=SHOWN) is None
    assert "replace_in_file: the text of a SEARCH" in step_fault(CLINE.format(DIFF.format(9, 4)), [], shown=SHOWN)
    written = "<write_to_file><path>a.py</path><content>\ndef f(:\n</content></write_to_file>"
    assert step_fault(written, [], shown=SHOWN) == "write_to_file: the Python in 'content' does not parse"


def test_edits_in_the_text_are_the_same_step_if_they_do_the_same():
    block = "./a.py\n```python\n<<<<<<< SEARCH\n    return 3 * r\n=======\n    return {}\n>>>>>>> REPLACE\n```"
    one = step_key(block.format("'a'"), [])
    assert one == step_key("Like this:\n\n" + block.format('"a"  # quoted').removeprefix("./"), [])
    assert one != step_key(block.format("'b'"), [])
    assert one != step_key(block.format("'a'").replace("a.py", "b.py"), [])
    clines = [CLINE.format(DIFF.format(3, value)) for value in ("'a'", '"a"', "'b'")]
    assert step_key(clines[0], []) == step_key("Now:\n" + clines[1], []) != step_key(clines[2], [])
    whole = "a.py\n```\nx = {}\n```\n"
    assert step_key(whole.format("'a'"), []) == step_key(whole.format('"a"'), []) != ""
    assert step_key("Read a.py first.\n```\nx = 1\n```", []) == step_key("Nothing to do.", []) == ""


def test_indentation_belongs_to_code_and_comments_to_other_files():
    def key(new, path="a.py"):
        return call_key("edit", {"path": path, "oldString": "x", "newString": new})

    assert key("    x = 'a'") == key('    x = "a"') != key("  x = 'a'")
    assert key("x: 1  # one", "a.yaml") != key("x: 1", "a.yaml")
    assert call_key("run", {"code": "print('a')"}) == call_key("run", {"code": 'print("a")'})
    assert call_key("read", {"path": "./a/../b.py"}) == call_key("read", {"path": "b.py"})


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ({"path": "a", "count": 1}, None),
        ({"path": "a", "count": 1.0}, None),
        ({"path": "a", "count": 1.5}, "count: 1.5 is not of type 'integer', 'null'"),
        ({"count": 1}, "'path' is a required property"),
        ({"path": "a", "more": 1}, "'more' was unexpected"),
        ({"path": 3}, "path: 3 is not of type 'string'"),
        ({"path": "a", "count": True}, "count: True is not of type 'integer', 'null'"),
        ({"path": "a", "count": None}, None),
        ({"path": "a", "mode": "z"}, "mode: 'z' is not one of"),
        ({"path": "a", "edits": [{"line": "x"}]}, "edits.0.line: 'x' is not of type"),
    ],
)
def test_arguments_fit_their_schema(arguments, fault):
    schema = {
        "properties": {
            "path": {"type": "string"},
            "count": {"type": ["integer", "null"]},
            "mode": {"enum": ["a", "b"]},
            "edits": {"items": {"properties": {"line": {"type": "integer"}}}},
        },
        "required": ["path"],
        "additionalProperties": False,
    }
    found = schema_fault(arguments, schema)
    assert (found is None) if fault is None else fault in found


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


def message(name, **arguments):
    function = {"name": name, "arguments": json.dumps(arguments)}
    return {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function", "function": function}]}


def test_looking_at_the_same_again_comes_after_everything_that_can_be_carried_out():
    read = '{"name": "read_file", "arguments": {"path": "./a.py"}}'
    texts = [read, read, "I have seen it.", '{"name": "edit", "argu']
    group = make_group([make_rollout([[i]], tokens=[i], text=text, logprobs=-1.0) for i, text in enumerate(texts)])
    answered = [message("read_file", path="a.py"), {"role": "tool", "tool_call_id": "1", "content": FILE}]
    parser = ToolCallParser(names=("edit", "read_file"))

    def first(messages):
        selector = StepSelector(MeanLogprob(), parser, SHOWN, {}, last_look(messages))
        scores = selector.score(group)
        return rank(scores, group), scores.details["steps"]

    ranking, steps = first(answered)
    assert ranking[0] == 2
    assert ranking[-1] == 3
    assert steps[1] == {"candidates": [0, 1], "repeated": True}
    for other in ([], [message("read_file", path="b.py")], [*answered, message("edit", path="a.py")]):
        assert set(first(other)[0][:2]) == {0, 1}


def test_only_steps_that_look_are_looks():
    cline = {"role": "assistant", "content": "<read_file>\n<path>a.py</path>\n</read_file>"}
    assert last_look([cline, {"role": "user", "content": "..."}]) == step_key("", [("read_file", {"path": "a.py"})])
    assert last_look([message("read", filePath="a.py")]) != ""
    for name in ("press", "edit", "spread", "thread_reply", "bash"):
        assert last_look([message(name, path="a.py")]) == ""
    assert last_look([]) == last_look([{"role": "assistant", "content": "Done."}]) == ""
    odd = message("read")
    for arguments in ("{no JSON", "[" * 100_000):
        odd["tool_calls"][0]["function"]["arguments"] = arguments
        assert last_look([odd]) == call_key("read", {})


def test_arguments_may_be_nested_deeply():
    arguments = json.loads('{"old_string": ' + "[" * 900 + '"x"' + "]" * 900 + ', "new_string": "y"}')
    assert call_key("edit", arguments) == call_key("edit", {**arguments})
    assert step_fault("", [("edit", arguments)], shown=SHOWN) is None
