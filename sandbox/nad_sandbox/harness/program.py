"""The program in a process of its own: its module, how it is loaded, and how its errors are described."""

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
    """The pipe to the supervisor. What it needs is held here: a program may replace it elsewhere.

    Args:
        descriptor: where answers go.
        token: what each of them begins with; the program has to find it before it can write one.
    """

    def __init__(self, descriptor, token=""):
        dumps, write, getpid, owner = json.dumps, os.write, os.getpid, os.getpid()

        def send(message):
            # a process that the program forked does not speak for it
            if getpid() != owner:
                os._exit(1)
            data = (token + dumps(message) + "\n").encode("ascii")
            while data:
                data = data[write(descriptor, data) :]

        self.send = send


def read_request(requests):
    """The next line of the requests' pipe as data; None at its end."""
    line = requests.readline()
    return json.loads(line) if line else None


def be_like_a_script():
    """Give a child a path without the working folder, and streams that write line by line."""
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
    """The program's code.

    Raises:
        BaseException: whatever the compiler raises; most often SyntaxError.
    """
    return compile(source, PROGRAM_FILE, "exec", dont_inherit=True)


def make_module(source, tests=""):
    """The program's module, which tests find under each of its names; nothing of it is run yet."""
    module = type(sys)(PROGRAM_MODULES[0])
    vars(module)["__builtins__"] = builtins  # those that tests and program may change, and not the harness's own
    module.__file__ = os.path.join(os.getcwd(), PROGRAM_FILE)
    for name in PROGRAM_MODULES:
        sys.modules[name] = module
    if "inspect" in source + tests or "linecache" in source + tests:
        remember_lines(source)
    return module


def remember_lines(source):
    """Let tracebacks and `inspect` find the program's lines, which lie in no file."""
    import linecache

    linecache.cache[PROGRAM_FILE] = (len(source), None, source.splitlines(True), PROGRAM_FILE)


def describe_syntax_error(error):
    """What the report says of source that does not compile."""
    text = getattr(error, "text", None)
    return {
        "error": "%s: %s" % (type(error).__name__, short_text(error)),
        "where": "line %s: %s" % (getattr(error, "lineno", "?"), text.strip()[:SHORT] if isinstance(text, str) else ""),
    }


def describe_error(error, source):
    """What the report says of an exception: its text, and the program's lines on the way to it."""
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
    """A bounded str."""
    return bounded(str, value)


def short_repr(value):
    """A bounded repr."""
    return bounded(repr, value)


def bounded(form, value):
    try:
        text = form(value)
        text = text if type(text) is str else "<no text>"
    except BaseException as error:
        text = "<no text: %s>" % type(error).__name__
    return text if len(text) <= SHORT else text[:SHORT] + "..."
