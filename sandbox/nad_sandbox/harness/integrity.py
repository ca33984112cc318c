"""Detect a program that changes what its tests rely on, or that inspects the interpreter.

Before the program is loaded, a guard records the functions and classes that a verdict rests on; afterwards it reports
the first one that was replaced. An audit hook, which nothing can remove, notes when the program reaches into the
interpreter: passing its tests is then no proof by itself.
"""

from __future__ import annotations

import os
import sys

from nad_sandbox.harness.assertions import TESTS_FILE
from nad_sandbox.harness.program import PROGRAM_FILE

FUNCTION = type(lambda: None)
NOT_GUARDED = frozenset(["print", "input", "open", "exit", "quit", "help", "copyright", "credits", "license", "_"])
GUARDED_PREFIXES = ("_pytest", "pytest", "pluggy", "unittest", "doctest", "json", "operator")
INNER_EVENTS = frozenset(
    [
        "sys.settrace", "sys.setprofile", "sys.monitoring.register_callback", "sys._current_frames",
        "sys._current_exceptions", "gc.get_objects", "gc.get_referrers", "gc.get_referents", "ctypes.dlsym",
        "ctypes.dlsym/handle", "ctypes.string_at", "ctypes.wstring_at", "ctypes.call_function", "ctypes.cdata",
        "ctypes.cdata/buffer", "ctypes.addressof", "ctypes.PyObj_FromPtr",
    ]
)  # fmt: skip
INNER_FILES = ("/mem", "/fd", "/maps", "/environ", "/task")


class Guard:
    """Records the functions and classes of modules, to find those that were changed later.

    Args:
        modules: The modules to guard.
    """

    def __init__(self, modules):
        self.kept = [(module, members(vars(module), module.__name__)) for module in modules]

    def changed(self, exempt=()):
        """Return the name of the first function or class that was changed; empty when none was.

        Args:
            exempt: Names of modules that the tests may have changed.
        """
        for module, before in self.kept:
            if module.__name__ in exempt:
                continue
            if sys.modules.get(module.__name__) is not module:
                return module.__name__
            name = difference(vars(module), before)
            if name:
                return module.__name__ + "." + name
        return ""


def members(namespace, owner):
    """Return each function and class of a namespace by name, with the parts that it consists of."""
    kept = {}
    for name, value in list(namespace.items()):
        kind = type(value)
        if name in NOT_GUARDED and owner == "builtins":
            continue
        if kind is FUNCTION:
            kept[name] = (value, (value.__code__, value.__defaults__, value.__kwdefaults__))
        elif isinstance(value, type):
            own = owner != "builtins" and value.__module__ == owner
            kept[name] = (value, members(vars(value), None) if own else None)
        elif callable(value) or kind in (staticmethod, classmethod, property):
            kept[name] = (value, None)
    return kept


def difference(namespace, before):
    """Return the name of the first member that was replaced or changed; empty when none was."""
    for name, (value, inner) in before.items():
        current = namespace.get(name)
        if current is not value:
            return name
        if type(inner) is tuple and (value.__code__, value.__defaults__, value.__kwdefaults__) != inner:
            return name
        if type(inner) is dict:
            deeper = difference(vars(value), inner)
            if deeper:
                return name + "." + deeper
    return ""


def guarded_modules(imported):
    """Return the modules that verdicts rest on, and those that the tests import."""
    named = [name for name in sys.modules if name.split(".")[0] in GUARDED_PREFIXES]
    names = dict.fromkeys(["builtins", *named, *imported])
    exempt = ("sys", "os", "warnings", "logging", "threading", "time")
    modules = [sys.modules.get(name) for name in names if name not in exempt]
    return [module for module in modules if isinstance(module, type(sys))]


def watch_introspection(noted, tell):
    """Install an audit hook that reports when the program, not a library at import, reaches into the interpreter.

    Args:
        noted: List to which the hook appends the names of the events.
        tell: Function that the hook calls with each new event before the program's access takes effect.
    """
    busy, getpid, owner = [], os.getpid, os.getpid()

    def hook(event, args):
        if busy or (event not in INNER_EVENTS and event != "open"):
            return
        if event == "open" and not is_inner_file(args[0]):
            return
        busy.append(event)
        try:
            if event not in noted and caused_by_program():
                noted.append(event)
                if getpid() == owner:
                    tell(event)
        finally:
            busy.pop()

    sys.addaudithook(hook)


def is_inner_file(path):
    """Return whether a path leads to a process's memory or descriptors."""
    if isinstance(path, bytes):
        path = path.decode("utf-8", "replace")
    return isinstance(path, str) and path.startswith("/proc/") and any(part in path for part in INNER_FILES)


def caused_by_program():
    """Return whether the program is nearer on the call stack than the tests, with no import in between."""
    frame = sys._getframe(2)
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith("<frozen importlib") or name in (TESTS_FILE, "harness.py"):
            return False
        if name == PROGRAM_FILE or name == "<string>":
            return True
        frame = frame.f_back
    return False
