"""Changes that tests make for a while, in both processes: pytest's monkeypatch and unittest.mock.patch.

A module's attribute that the tests replace is replaced in the candidate's process too, by a function that calls back
or by plain data: the program would else see the real one. So are environment variables and the working folder.
"""

from __future__ import annotations

import importlib
import os
import types

from nad_sandbox.harness.asserting import TestsError
from nad_sandbox.harness.codec import encode
from nad_sandbox.harness.remote import Remote

MISSING = ["missing"]


class MonkeyPatch:
    """What pytest calls monkeypatch, and pytest.MonkeyPatch.context()."""

    def __init__(self, candidate):
        self.candidate, self.undoing = candidate, []

    def __enter__(self):
        return self

    def __exit__(self, *_problem):
        self.undo()

    def context(self):
        """A monkeypatch of its own, undone at the end."""
        return MonkeyPatch(self.candidate)

    def undo(self):
        """Take everything back, the last first."""
        while self.undoing:
            self.undoing.pop()()

    def setattr(self, target, name, value=MISSING, raising=True):
        """Replace an attribute, given as an object and a name, or as a dotted name."""
        if isinstance(target, str):
            value = name if value is MISSING else value
            target, name = resolved(target)
        old = getattr(target, name, MISSING)
        if raising and old is MISSING:
            raise AttributeError("%r has no attribute %r" % (target, name))
        if isinstance(target, type):
            old = target.__dict__.get(name, MISSING)
        self.undoing.append(replaced(self.candidate, target, name, value))
        setattr(target, name, value)
        self.undoing.append(lambda: delattr(target, name) if old is MISSING else setattr(target, name, old))

    def delattr(self, target, name=None, raising=True):
        """Remove an attribute of an object of the tests or of the program."""
        if isinstance(target, str):
            target, name = resolved(target)
        if isinstance(target, types.ModuleType):
            raise TestsError("the tests remove %s.%s, which cannot be done here" % (target.__name__, name))
        if not hasattr(target, name):
            if raising:
                raise AttributeError(name)
            return
        old = getattr(target, name)
        delattr(target, name)
        self.undoing.append(lambda: setattr(target, name, old))

    def setitem(self, mapping, name, value):
        """Replace an entry."""
        old = mapping[name] if name in mapping else MISSING
        mapping[name] = value
        self.undoing.append(lambda: self.restore(mapping, name, old))
        if mapping is os.environ:
            share_environment(self.candidate)

    def delitem(self, mapping, name, raising=True):
        """Remove an entry."""
        if name not in mapping:
            if raising:
                raise KeyError(name)
            return
        old = mapping.pop(name)
        self.undoing.append(lambda: self.restore(mapping, name, old))
        if mapping is os.environ:
            share_environment(self.candidate)

    def restore(self, mapping, name, old):
        """Put an entry back."""
        if old is MISSING:
            mapping.pop(name, None)
        else:
            mapping[name] = old
        if mapping is os.environ:
            share_environment(self.candidate)

    def setenv(self, name, value, prepend=None):
        """Set an environment variable."""
        if prepend and name in os.environ:
            value = value + prepend + os.environ[name]
        self.setitem(os.environ, name, str(value))

    def delenv(self, name, raising=True):
        """Unset an environment variable."""
        self.delitem(os.environ, name, raising)

    def chdir(self, path):
        """Change the working folder."""
        old = os.getcwd()
        for folder, undo in ((str(path), False), (old, True)):
            change = change_folder(self.candidate, folder)
            if undo:
                self.undoing.append(change)
            else:
                change()

    def syspath_prepend(self, path):
        """Look for modules in a folder first."""
        raise TestsError("the tests use monkeypatch.syspath_prepend, which is not there")


def change_folder(candidate, folder):
    """What changes the working folder of both processes."""

    def change():
        os.chdir(folder)
        if candidate.failure is None:
            candidate.request({"do": "chdir", "path": folder})

    return change


def resolved(dotted):
    """The object and the attribute that a dotted name means."""
    path, _, name = dotted.rpartition(".")
    parts = path.split(".")
    found = importlib.import_module(parts[0])
    for i, part in enumerate(parts[1:], 2):
        try:
            found = getattr(found, part)
        except AttributeError:
            found = importlib.import_module(".".join(parts[:i]))
    return found, name


def replaced(candidate, target, name, value):
    """Replace a module's attribute in the candidate's process; what takes that back."""
    if not isinstance(target, types.ModuleType) or target.__name__ == "tests" or candidate.failure is not None:
        return lambda: None
    module = "candidate" if getattr(target, "__nad_alias__", False) else target.__name__
    message = {"do": "patch", "module": module, "attribute": name}
    if hasattr(value, "read") and module == "sys":
        place = value.tell()
        message["text"] = value.read()
        value.seek(place)
    elif module == "sys" and name in ("stdout", "stderr"):
        return lambda: None  # what the program prints is written to those of the tests anyway
    else:
        message["value"] = encode(value, candidate.refer)
    token = candidate.value(message)
    return lambda: candidate.failure or candidate.request({"do": "unpatch", "token": token})


def share_environment(candidate):
    """Let the program see the environment variables of the tests."""
    if candidate.failure is None:
        candidate.request({"do": "environment", "values": encode(dict(os.environ), candidate.refer)})


def share_mock_patches(candidate):
    """Let `unittest.mock.patch` reach the program too."""
    from unittest import mock

    enter, leave = mock._patch.__enter__, mock._patch.__exit__

    def entering(patch):
        result = enter(patch)
        value = getattr(patch.target, patch.attribute)
        if not isinstance(patch.target, Remote):
            patch.nad_undo = replaced(candidate, patch.target, patch.attribute, value)
        return result

    def leaving(patch, *problem):
        getattr(patch, "nad_undo", lambda: None)()
        return leave(patch, *problem)

    mock._patch.__enter__, mock._patch.__exit__ = entering, leaving
    change, change_back = mock._patch_dict._patch_dict, mock._patch_dict._unpatch_dict

    def changing(patch):
        change(patch)
        if patch.in_dict is os.environ:
            share_environment(candidate)

    def changing_back(patch):
        change_back(patch)
        if patch.in_dict is os.environ:
            share_environment(candidate)

    mock._patch_dict._patch_dict, mock._patch_dict._unpatch_dict = changing, changing_back
