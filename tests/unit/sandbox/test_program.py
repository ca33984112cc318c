"""What a program may consist of: names of files, arguments and variables that cannot work are refused by name."""

import json

import pytest
from nad_sandbox import UnsafeLocalSandbox
from nad_sandbox.program import MAIN_FILE, command_program, harness_program, python_program


def program(files, **options):
    return python_program("pass", files=files, **{"stdin": b"", "timeout": 1.0, **options})


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("x" * 6000, r"'x{60}\.\.\.' \(6,000 characters\) is too long"),
        ("x" * 256, "at most 255 bytes"),
        ("\u00e9" * 200, "at most 255 bytes"),
        ("a/" * 2500 + "x", "with its folders 4,000"),
        ("a\0b", "cannot be used: a name is relative"),
        ("/etc/passwd", "cannot be used: a name is relative"),
        ("../x", "cannot be used: a name is relative"),
        ("a/../../x", "cannot be used: a name is relative"),
        ("", "cannot be used: a name is relative"),
        (".", "cannot be used: a name is relative"),
        (MAIN_FILE, "cannot be used: a name is relative"),
        (f"./{MAIN_FILE}", "cannot be used: a name is relative"),
        ("\ud800", "must be text that UTF-8 can encode"),
    ],
)
def test_a_name_that_no_file_can_have_is_refused(name, reason):
    with pytest.raises(ValueError, match=reason):
        program({name: ""})


def test_names_that_meet_are_refused():
    with pytest.raises(ValueError, match=r"'\./a' names the file 'a' a second time"):
        program({"a": "", "./a": ""})
    with pytest.raises(ValueError, match="'a' cannot be both a file and the folder of 'a/b'"):
        program({"a/b": "", "a": ""})
    with pytest.raises(TypeError, match="the name 3 is no string"):
        program({3: ""})


def test_the_longest_names_and_the_name_of_the_standard_input_can_be_used():
    files = {"x" * 255: "1", ".stdin": "mine", "a/b/c": "2"}
    look = f"import os\nprint(input(), open('.stdin').read(), open('a/b/c').read(), os.path.exists({'x' * 255!r}))"
    with UnsafeLocalSandbox() as sandbox:
        assert sandbox.run_python(look, stdin="in\n", files=files).stdout == "in mine 2 True\n"


@pytest.mark.parametrize(
    ("cmd", "env", "error", "reason"),
    [
        ("ls", None, TypeError, "there is no shell"),
        ([], None, ValueError, "cmd is empty"),
        (["a", 1], None, TypeError, "every argument must be a string"),
        (["a\0"], None, ValueError, "NUL byte"),
        (["\ud800"], None, ValueError, "UTF-8 can encode"),
        (["a"], {"A=B": "x"}, ValueError, "not a valid environment variable"),
        (["a"], {"A": "\0"}, ValueError, "not a valid environment variable"),
        (["a"], {"A": "\ud800"}, ValueError, "not a valid environment variable"),
        (["a"], {"A": 1}, TypeError, "must be two strings"),
    ],
)
def test_a_command_that_cannot_be_run_is_refused(cmd, env, error, reason):
    with pytest.raises(error, match=reason):
        command_program(cmd, stdin=None, env=env, timeout=1.0)


def test_the_feed_is_a_header_the_mark_the_standard_input_and_the_files():
    whole = b"".join(program({"a": "file"}, stdin="input").feed(mark="secret"))
    size = int.from_bytes(whole[:8], "big")
    header = json.loads(whole[8 : 8 + size])
    assert (header["stdin"], header["files"], header["mark"]) == (5, [[MAIN_FILE, 4], ["a", 4]], 6)
    assert whole[8 + size :] == b"secretinputpassfile"


def test_a_program_of_the_harness_is_sent_once():
    judged = harness_program(b"harness", b"payload", compiled=True, timeout=1.0)
    first, second = (b"".join(judged.feed(mark="secret", known=known)) for known in (False, True))
    assert first.endswith(b"}harnesssecretpayload")
    assert second.endswith(b"}secretpayload")
