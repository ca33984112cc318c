"""Which shell commands are the same, and which carry Python that does not parse."""

import subprocess

import pytest

from nad_agents.chat.edit_steps import call_key, step_fault
from nad_agents.chat.shell_commands import breaks_python_in_command, normal_command
from nad_agents.chat.shown_text import ShownText

DOCUMENT = "cat > {file} <<'{mark}'\n{code}\n{mark}"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ls -la src", "ls   -la  src "),
        ("cat 'a b.py'", 'cat "a b.py"'),
        ("cat 'a b.py'", r"cat a\ b.py"),
        ("cat 'a.py'", "cat a.py"),
        ("pytest -q  # all of them", "pytest -q"),
        ("cd src && pytest", "cd src &&\n  pytest"),
        ("cd src\npytest\n", "cd src; pytest"),
        ("pytest -q >out.txt 2>&1", "pytest -q > out.txt 2>& 1"),
        ("pytest \\\n  -q", "pytest -q"),
        ('echo "$HOME/x"', 'echo "$HOME"/x'),
        ("python -c 'print(1)'", 'python -c "print( 1 )"'),
        ("python3 -c 'import a; a.f(\"x\")'", "python3 -c \"import a\na.f('x')\""),
        ("cd x && A=1 python -c 'x=1'", "cd x && A=1 python -c 'x = 1  # one'"),
        ("uv run python -c 'x=1'", "uv run python -c 'x = 1'"),
        (
            DOCUMENT.format(file="a.py", mark="EOF", code="x = 'a'"),
            DOCUMENT.format(file="'a.py'", mark="PY", code='x = "a"  # it'),
        ),
        ("python - <<'EOF' | head\nx = 1\nEOF", "python - <<'PY' | head\nx=1\nPY\n"),
        ("tee a.py <<'EOF'\nx = 1\nEOF", "tee a.py <<'EOF'\nx=1\nEOF"),
        ("cat <<EOF > a.txt\none  \nEOF", "cat <<EOF > a.txt\none\nEOF"),
        (["bash", "-lc", "ls  'a'"], ["bash", "-lc", "ls a"]),
        (["python", "-c", "x=1"], ["python", "-c", "x = 1"]),
    ],
)
def test_commands_that_do_the_same_are_the_same(one, other):
    assert normal_command(one) == normal_command(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("echo $HOME", "echo '$HOME'"),
        ("echo $X", 'echo "$X"'),
        ("ls *.py", "ls '*.py'"),
        ("echo a b", "echo 'a b'"),
        ("echo 'a  b'", "echo 'a b'"),
        ("echo a ''", "echo a"),
        ("echo a; b", "echo 'a;' b"),
        ("echo ~", "echo '~'"),
        ("echo 2>x", "echo 2 >x"),
        ("echo 2>x", "echo '2'>x"),
        ("echo $(a)b", "echo $(a) b"),
        ("echo a#b", "echo a"),
        ("a && b", "a || b"),
        ("a & b", "a && b"),
        ("cat <<EOF\n$X\nEOF", "cat <<'EOF'\n$X\nEOF"),
        ("cat <<EOF > a.txt\n# one\nEOF", "cat <<EOF > a.txt\n# two\nEOF"),
        ("python a.py <<'EOF'\n1 # x\nEOF", "python a.py <<'EOF'\n1\nEOF"),
        ("python -c 'print(1)'", "python -c 'print(2)'"),
        ("python -m a <<'EOF'\n1 # x\nEOF", "python -m a <<'EOF'\n1\nEOF"),
        ("X=1 a", "'X=1' a"),
        (["echo", "a  b"], ["echo", "a b"]),
        (["bash", "-lc", "a", "x"], ["bash", "-lc", "'a'", "x"]),
        ("echo 'it", "echo it"),
    ],
)
def test_commands_that_differ_are_different(one, other):
    assert normal_command(one) != normal_command(other)


@pytest.mark.parametrize(
    "command",
    [
        "python -c 'print('",
        'cd x && python3 -c "def f(:"',
        'python -c "print(\'a)"',
        DOCUMENT.format(file="a.py", mark="EOF", code="def f(:"),
        "python <<'EOF'\ndef f(:\nEOF",
        "sudo tee a.py > /dev/null <<'EOF'\ndef f(:\nEOF",
        ["bash", "-lc", "python -c 'x ='"],
        ["python3", "-c", "x ="],
    ],
)
def test_python_that_does_not_parse_is_found(command):
    assert breaks_python_in_command(command)
    fault = step_fault("", [("shell", {"command": command})], shown=ShownText(()))
    assert fault == "shell: the Python in 'command' does not parse"


@pytest.mark.parametrize(
    "command",
    [
        "python -c 'print(1)'",
        'python -c "print($X"',
        "python a.py <<'EOF'\ndef f(:\nEOF",
        "python -m json.tool <<'EOF'\n{\nEOF",
        "python tool.py -c 'x ='",
        "python -c",
        "cat >> a.py <<'EOF'\n    return (\nEOF",
        "cat > a.txt <<'EOF'\ndef f(:\nEOF",
        "cat > a.py <<EOF\n$X (\nEOF",
        "echo python -c 'def f(:'",
        "perl -c 'def f(:'",
        "echo 'it",
        "echo \"$(python -c 'x =')\"",
        "",
        "\n",
        ["python", "-m", "x ="],
        ["echo", "python", "-c", "x ="],
    ],
)
def test_other_commands_have_no_fault(command):
    assert not breaks_python_in_command(command)


@pytest.mark.parametrize(
    "command",
    [
        "echo a\\ b 'c d' \"e f\" g''h",
        "echo a'b'\"c\" \\' '\"' \"'\" ''",
        "echo xy # z",
        'echo \'a\\b\' "a\\b" "\\\\"',
    ],
)
def test_words_are_those_of_the_shell(command):
    shown = subprocess.run(
        ["sh", "-c", command.replace("echo", "printf '%s\\n'", 1)], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    quoted = " ".join("'" + word.replace("'", "'\\''") + "'" for word in shown)
    assert normal_command(command)[1:] == normal_command(f"echo {quoted}")[1:]


def test_what_a_command_is_for_makes_no_difference_to_a_shells_tool():
    for tool in ("bash", "run_shell_command", "exec_command"):
        one, other = ({"command": "ls 'a'", "description": why} for why in ("List a", "Look at a"))
        assert call_key(tool, one) == call_key(tool, other | {"command": "ls a"})
    # elsewhere a description is what the call is about
    tickets = [{"command": "create", "description": why} for why in ("it fails", "it is slow")]
    assert call_key("tickets", tickets[0]) != call_key("tickets", tickets[1])
