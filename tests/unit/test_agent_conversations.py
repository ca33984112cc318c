"""Edits of coding agents are carried out on the conversation's file as the agents do it."""

import importlib.util
import sys

import pytest

from tests.unit.sources import ROOT

_SPEC = importlib.util.spec_from_file_location(
    "benchmarks_agent_conversations", ROOT / "benchmarks" / "agent_conversations.py"
)
agents = importlib.util.module_from_spec(_SPEC)
sys.modules[_SPEC.name] = agents
_SPEC.loader.exec_module(agents)

SOURCE = "def area(r):\n    return 3 * r\n\n\ndef twice(x):\n    return 2 * x\n"
CHANGED = SOURCE.replace("3 * r", "4 * r")
CONVERSATION = agents.Conversation("made", "a.py", SOURCE, (), ())
PATCH = "*** Begin Patch\n*** Update File: {}\n@@\n def area(r):\n{}\n*** End Patch"
BLOCK = "{} SEARCH\n    return 3 * r\n=======\n    return 4 * r\n{} REPLACE\n"


@pytest.mark.parametrize(
    ("content", "calls"),
    [
        ("", [("edit", {"filePath": "a.py", "oldString": "3 * r", "newString": "4 * r"})]),
        ("", [("edit", {"file_path": "src/a.py", "old_string": "return 3 * r", "new_string": "return 4 * r"})]),
        ("", [("replace_in_file", {"path": "a.py", "diff": BLOCK.format("-------", "+++++++")})]),
        ("", [("apply_patch", {"input": PATCH.format("a.py", "-    return 3 * r\n+    return 4 * r")})]),
        ("", [("write_to_file", {"path": "a.py", "content": CHANGED})]),
        ("a.py\n```python\n" + BLOCK.format("<<<<<<<", ">>>>>>>") + "```", []),
    ],
    ids=["opencode", "qwen", "cline", "codex", "whole", "aider"],
)
def test_edits_change_the_file(content, calls):
    assert agents.changed_file(CONVERSATION, content, calls) == CHANGED


@pytest.mark.parametrize(
    "calls",
    [
        [("edit", {"filePath": "a.py", "oldString": "return", "newString": "yield"})],
        [("edit", {"filePath": "a.py", "oldString": "return 9", "newString": "return 4"})],
        [("edit", {"filePath": "b.py", "oldString": "3 * r", "newString": "4 * r"})],
        [("edit", {"filePath": "a.py", "oldString": "3 * r", "newString": "4 *"})],
        [("apply_patch", {"input": PATCH.format("a.py", "-    return 9\n+    return 4")})],
        [("apply_patch", {"input": "-    return 3 * r\n+    return 4 * r"})],
        [("write_to_file", {"path": "a.py", "content": SOURCE})],
    ],
    ids=["twice there", "not there", "other file", "no Python", "patch of other lines", "no patch", "no change"],
)
def test_edits_that_cannot_be_carried_out_are_refused(calls):
    with pytest.raises(agents.EditError):
        agents.changed_file(CONVERSATION, "", calls)


def test_steps_that_edit_nothing_are_told_apart():
    assert agents.changed_file(CONVERSATION, "It is done.", []) is None
    assert agents.changed_file(CONVERSATION, "", [("read_file", {"path": "a.py"})]) is None


def test_every_conversation_shows_the_whole_file():
    made = list(agents.conversations())
    assert len(made) == len(agents.TASKS) * len(agents.AGENTS)
    for conversation in made:
        compile(conversation.source, conversation.file, "exec")
        shown = str(conversation.messages[-1]["content"])
        assert all(line in shown for line in conversation.source.splitlines())
