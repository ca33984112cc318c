"""Load the program in a process of its own, make its module and describe its errors."""

from __future__ import annotations

import builtins
import json
import os
import sys

PROGRAM_FILE = "solution.py"
PROGRAM_MODULES = ("solution", "candidate", "main")
PACKAGES = "/opt/nad-sandbox/packages"
SHORT = 600
STACK_LINES = 4


class Answers:
    """Writes answers to the supervisor, with functions saved before a program could replace them in their modules.

    Args:
        descriptor: Descriptor that answers are written to.
        token: Text that each answer begins with; a program must know it to forge an answer.
    """

    def __init__(self, descriptor, token=""):
        dumps, write, getpid, owner = json.dumps, os.write, os.getpid, os.getpid()

        def send(message):
            # a process that the program forked must not answer
            if getpid() != owner:
                os._exit(1)
            data = (token + dumps(message) + "\n").encode("ascii")
            while data:
                data = data[write(descriptor, data) :]

        self.send = send


def read_request(requests):
    """Return the next request of the pipe as data; None at the end of the pipe."""
    line = requests.readline()
    return json.loads(line) if line else None


def set_up_script():
    """Remove the working folder from a child's import path, and give the child line-buffered streams."""
    folder = os.getcwd()
    sys.path[:] = [path for path in sys.path if path and path != folder]
    if PACKAGES not in sys.path:
        sys.path.append(PACKAGES)
    sys.dont_write_bytecode = True
    sys.stdin = open(0, encoding="utf-8", errors="replace", closefd=False)
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        made = open(descriptor, "w", encoding="utf-8", errors="replace", closefd=False, buffering=1)
        setattr(sys, name, made)
        setattr(sys, "__%s__" % name, made)
    vars(sys)["__stdin__"] = sys.stdin
    sys.argv = [PROGRAM_FILE]


def compile_program(source):
    """Compile the program.

    Raises:
        BaseException: The compiler may raise anything; most often it raises SyntaxError.
    """
    return compile(source, PROGRAM_FILE, "exec", dont_inherit=True)


def make_module(source, tests=""):
    """Create the program's module and register it under each of its names, without running the program."""
    module = type(sys)(PROGRAM_MODULES[0])
    vars(module)["__builtins__"] = builtins  # the built-ins that tests and program may change, not the harness's own
    module.__file__ = os.path.join(os.getcwd(), PROGRAM_FILE)
    for name in PROGRAM_MODULES:
        sys.modules[name] = module
    if "inspect" in source + tests or "linecache" in source + tests:
        remember_lines(source)
    return module


def remember_lines(source):
    """Make the program's lines, which are in no file, available to tracebacks and `inspect`."""
    import linecache

    linecache.cache[PROGRAM_FILE] = (len(source), None, source.splitlines(True), PROGRAM_FILE)


def describe_syntax_error(error):
    """Describe for the report why source does not compile."""
    text = getattr(error, "text", None)
    return {
        "error": "%s: %s" % (type(error).__name__, short_text(error)),
        "where": "line %s: %s" % (getattr(error, "lineno", "?"), text.strip()[:SHORT] if isinstance(text, str) else ""),
    }


def describe_error(error, source):
    """Describe an exception for the report: its text, and the program's lines in its traceback."""
    remember_lines(source)
    import traceback

    told = {"error": "%s: %s" % (type(error).__name__, short_text(error))}
    if isinstance(error, SystemExit):
        told["error"] = "the program tried to end itself: " + told["error"]
    try:
        entries = [e for e in traceback.extract_tb(error.__traceback__) if e.filename == PROGRAM_FILE]
    except Exception:
        entries = []
    lines = ["line %s, in %s: %s" % (e.lineno, e.name, e.line or "") for e in entries[-STACK_LINES:]]
    told["where"] = "; ".join(lines)[:SHORT]
    return told


def short_text(value):
    """Return the str of a value, cut to a bounded length."""
    return bounded(str, value)


def short_repr(value):
    """Return the repr of a value, cut to a bounded length."""
    return bounded(repr, value)


def bounded(form, value):
    try:
        text = form(value)
        text = text if type(text) is str else "<no text>"
    except BaseException as error:
        text = "<no text: %s>" % type(error).__name__
    return text if len(text) <= SHORT else text[:SHORT] + "..."
