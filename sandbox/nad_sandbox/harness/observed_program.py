"""The observed process: it loads a program, makes one call after the other and reports the outcome of each.

The observer forks it, or starts it as a new Python where the program's behavior may depend on the process.

Each line on the answers pipe is the outcome of one call: what it returned or raised, its arguments afterwards, and its
output. Values are written in their canonical form.
"""

from __future__ import annotations

import ast
import atexit
import builtins
import io
import json
import opcode
import os
import re
import sys

from nad_sandbox.harness.canonical_form import FUNCTION_CALLS, Printed, awaited, canonical
from nad_sandbox.harness.surroundings import WorkingFolder, skip_sleeping

RECURSION = 1000
PROGRAM_FILE = "candidate.py"


def outcome(scope, call, folder):
    """Make one call and return its outcome."""
    out = sys.stdout = Printed()
    sys.stdin = io.StringIO("")
    told = {}
    try:
        tree = ast.parse(call, mode="eval").body
        names = dict(scope, **values_named_in(call, scope))
        plain = lambda node: eval(compile(ast.Expression(node), "<input>", "eval"), names)
        args = [plain(node) for node in tree.args]
        kwargs = {keyword.arg: plain(keyword.value) for keyword in tree.keywords}
        function = eval(compile(ast.Expression(tree.func), "<input>", "eval"), scope)
        before = canonical([args, kwargs])
        result = awaited(function(*args, **kwargs))
        told["returned"] = canonical(result, FUNCTION_CALLS)
        after = canonical([args, kwargs])
        if after != before:
            told["changed"] = after
    except ModuleNotFoundError as error:
        told = {"raised": "ModuleNotFoundError: %s" % error}
    except BaseException as error:
        told = {"raised": type(error).__name__}
        if raised_on_purpose(error):
            told["deliberate"] = True
    if out.getvalue():
        told["printed"] = out.getvalue()
    files = folder.changes()
    if files:
        told["files"] = canonical(files)
    return told


RAISE = opcode.opmap["RAISE_VARARGS"]


def raised_on_purpose(error):
    """Return whether a `raise` statement of the program chose an exception, which may be what it should do.

    What a check of its own or an unfinished part raises is a failure.
    """
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    if place is None or not isinstance(error, Exception) or isinstance(error, (AssertionError, NotImplementedError)):
        return False
    code = place.tb_frame.f_code
    return code.co_filename == PROGRAM_FILE and code.co_code[place.tb_lasti] == RAISE


PLAIN = {
    kind.__name__: kind
    for kind in (set, frozenset, float, dict, list, tuple, bytearray, type, setattr, len, isinstance)
}
LIBRARY = {
    "Decimal": "decimal", "Fraction": "fractions", "date": "datetime", "datetime": "datetime", "time": "datetime",
    "timedelta": "datetime", "Path": "pathlib", "StringIO": "io", "BytesIO": "io", "SimpleNamespace": "types",
    "UUID": "uuid", "Counter": "collections", "deque": "collections",
}  # fmt: skip
CALLED = re.compile(r"\b([A-Za-z_]\w*)\(")


def values_named_in(call, scope):
    """Return what the arguments of a call are made with: built-in types, types of the library, and helpers.

    A class of the program comes before others of its name.
    """
    found = dict(PLAIN)
    for name in set(CALLED.findall(call)):
        if getattr(scope.get(name), "__module__", None) == "candidate" and isinstance(scope[name], type):
            found.pop(name, None)
        elif name in LIBRARY:
            found[name] = getattr(__import__(LIBRARY[name]), name)
    return dict(
        found,
        async_function=async_function,
        with_attributes=with_attributes,
        noted=NOTED,
        raised_on_purpose=raised_on_purpose,
    )


def async_function(function):
    """Return a coroutine function that does the same as a function."""

    async def awaited_function(*args):
        return function(*args)

    return awaited_function


class Noted:
    """Says what it and its methods are called with, where whoever calls them does nothing with their results."""

    def __init__(self, name):
        self.name = name

    def __call__(self, *args, **kwargs):
        given = [*map(repr, args), *("%s=%r" % pair for pair in kwargs.items())]
        sys.stdout.write("called back %s with %s\n" % (self.name, ", ".join(given) or "nothing"))

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        vars(self)[name] = Noted("%s.%s" % (self.name, name))
        return vars(self)[name]

    def __repr__(self):
        return self.name


NOTED = Noted("noted")


def with_attributes(value, **attributes):
    """Return an object after assigning attributes."""
    for name, attribute in attributes.items():
        setattr(value, name, attribute)
    return value


def serve_calls(requests, answers):
    """Load the program that the first request holds, then answer calls.

    Args:
        requests: Descriptor of the requests, one in each line.
        answers: Descriptor of the answers.
    """
    lines = os.fdopen(requests, "r", encoding="utf-8")

    def answer(message):
        data = (json.dumps(message) + "\n").encode()
        while data:
            data = data[os.write(answers, data) :]

    source = json.loads(lines.readline())
    scope = make_scope("candidate", PROGRAM_FILE)
    sys.stdout, sys.stdin = io.StringIO(), io.StringIO("")
    skip_sleeping()
    give_whole_stack()
    try:
        exec(compile(source, PROGRAM_FILE, "exec", dont_inherit=True), scope)
    except ModuleNotFoundError as error:
        answer({"raised": "ModuleNotFoundError: %s" % error})
        return
    except BaseException as error:
        answer({"raised": type(error).__name__})
        return
    answer({})
    folder = WorkingFolder()
    for line in lines:
        answer(outcome(scope, json.loads(line), folder))


def run_script(file):
    """Run a file as Python runs a script, and end the process as Python does."""
    sys.stdin = open(0, encoding="utf-8", errors="surrogateescape", closefd=False)
    sys.stdout = open(1, "w", encoding="utf-8", errors="surrogateescape", closefd=False)
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
    scope = make_scope("__main__", file)
    skip_sleeping()
    give_whole_stack()
    status = 0
    try:
        with open(file, "rb") as script:
            source = script.read()
        exec(compile(source, file, "exec", dont_inherit=True), scope)
    except SystemExit as error:
        status = error.code
        if status is not None and not isinstance(status, int):
            sys.stderr.write("%s\n" % (status,))
            status = 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    try:
        if "threading" in sys.modules:
            sys.modules["threading"]._shutdown()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit((status or 0) & 0xFF)


def make_scope(name, file):
    """Return the namespace of a new module for the program, registered under its name."""
    folder = os.getcwd()
    sys.path[:] = [path for path in sys.path if path and path != folder]
    module = type(sys)(name)
    vars(module).update(__builtins__=builtins, __file__=file)
    sys.modules[name] = module
    sys.argv = [file]
    return vars(module)


def give_whole_stack():
    """Raise the recursion limit by the calls that lead here, so that a program may recurse as deep in any process."""
    frame, depth = sys._getframe(), 0
    while frame is not None:
        frame, depth = frame.f_back, depth + 1
    sys.setrecursionlimit(RECURSION + depth)
