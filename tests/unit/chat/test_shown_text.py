"""What a conversation has shown, in the forms in which agents show files."""

import json

import pytest

from nad_agents.chat.shown_text import ShownText, shown_text
from nad_agents.chat.text_calls import text_calls

FILE = "def area(r):\n    return 3 * r\n\n\ndef main():\n    print(area(2))\n"


def assistant(name, arguments):
    call = {"function": {"name": name, "arguments": json.dumps(arguments)}}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def test_what_a_conversation_shows_are_its_texts_and_the_files_that_calls_wrote():
    shown = shown_text(
        [
            {"role": "user", "content": [{"type": "text", "text": FILE}]},
            assistant("write", {"path": "b.py", "content": "y = 1\nz = 2\n"}),
            {"role": "tool", "content": "done"},
        ]
    )
    assert shown.has("y = 1\nz = 2")
    assert shown.has("    return 3 * r")
    assert not shown.has("z = 2\ny = 1")


def test_output_in_json_shows_its_lines():
    shown = shown_text([{"role": "tool", "content": json.dumps({"output": FILE, "metadata": {"exit_code": 0}})}])
    assert shown.has("    return 3 * r\n\n\ndef main():")
    assert shown_text([{"role": "tool", "content": "[" * 100_000}]).has("[[")


@pytest.mark.parametrize(
    "edit",
    [
        assistant("edit", {"path": "a.py", "old_string": "    return 3 * r", "new_string": "    return 4 * r"}),
        {"role": "assistant", "content": "a.py\n<<<<<<< SEARCH\n3 * r\n=======\n    return 4 * r\n>>>>>>> REPLACE"},
    ],
    ids=["call", "block"],
)
def test_after_an_edit_lines_follow_one_another_that_were_shown_apart(edit):
    read = {"role": "tool", "content": FILE}
    now = "def area(r):\n    return 4 * r\n\n\ndef main():"
    assert not shown_text([read]).has(now)
    assert shown_text([read, edit]).has(now)
    assert not shown_text([read, edit]).has("def area(r):\n    return 5 * r")


def test_a_text_may_begin_and_end_within_a_line_unless_it_ends_the_line():
    shown = ShownText.of([FILE])
    assert shown.has("3 * r\n\n\ndef ma")
    assert not shown.has("3 * r\n\n\ndef ma\n")
    assert shown.has("area(2))\n")
    assert not shown.has("area(2)\n")
    assert not shown.has("      return 3 * r")
    assert shown.has("      return 3 * r", ignore_indentation=True)
    assert shown.has(FILE.replace("\n", "\r\n"))


def test_calls_in_a_text_are_read_with_the_files_that_they_contain():
    page = "<content>a</content>\n<path>x</path>"
    text = f"<write_to_file>\n<path>a.html</path>\n<content>\n{page}\n</content>\n</write_to_file>"
    assert text_calls(text) == [("write_to_file", {"path": "a.html", "content": page})]
    assert text_calls("<ul><li>one</li></ul>") == []
    two = "a.py\n<<<<<<< SEARCH\n=======\nx\n>>>>>>> REPLACE\n\n<<<<<<< SEARCH\ny\n=======\n>>>>>>> REPLACE\n"
    assert text_calls(two) == [
        ("SEARCH block", {"path": "a.py", "search": "", "replace": "x\n"}),
        ("SEARCH block", {"path": "a.py", "search": "y\n", "replace": ""}),
    ]
