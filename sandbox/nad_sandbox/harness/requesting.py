"""Fixtures: those that tests define, and those that come with pytest."""

from __future__ import annotations

import collections
import contextlib
import inspect
import io
import os
import pathlib
import tempfile

from nad_sandbox.harness.arranging import Fixture, Param
from nad_sandbox.harness.asserting import TestsError
from nad_sandbox.harness.changing import MonkeyPatch
from nad_sandbox.harness.comparing import Warns

Captured = collections.namedtuple("Captured", "out err")
WIDER = {"package": "module", "session": "module"}


class Request:
    """One run of a test: what it asked for and got, by scope, and how that is given back."""

    def __init__(self, shared, defined, instance, node, parameters):
        self.shared, self.defined, self.instance = shared, defined, instance
        self.node, self.parameters = node, parameters
        self.made, self.stack = {}, contextlib.ExitStack()
        self.cls = type(instance) if instance is not None else None
        self.module = shared.module
        self.function = node.function

    def wanted(self, names):
        """Names with everything that they need in turn."""
        found, todo = [], list(names)
        while todo:
            name = todo.pop(0)
            if name not in found:
                found.append(name)
                todo += self.defined[name].needs if name in self.defined else []
        return found

    def provide(self, name):
        """The fixture's value, made at its first use within its scope."""
        if name == "request":
            return self
        if name not in self.defined:
            if name not in self.made:
                self.made[name] = self.stack.enter_context(built_in(name, self.shared))
            return self.made[name]
        fixture = self.defined[name]
        made, stack = self.made, self.stack
        if fixture.scope != "function":
            made, stack = self.shared.of(WIDER.get(fixture.scope, fixture.scope))
        key = (id(fixture), self.parameters.get(name, (None,))[0])
        if key not in made:
            made[key] = self.make(name, fixture, stack)
        return made[key]

    def make(self, name, fixture, stack):
        request = Requesting(self, self.parameters.get(name, (None, None))[1], name in self.parameters, stack)
        needs = {n: request if n == "request" else self.provide(n) for n in fixture.needs}
        function = fixture.function
        if "self" in inspect.signature(function).parameters:
            needs["self"] = self.instance
        value = function(**needs)
        if inspect.isgenerator(value):
            generator, value = value, next(value)
            stack.callback(next, generator, None)
        elif inspect.iscoroutine(value):
            value = self.shared.run(value)
        elif inspect.isasyncgen(value):
            generator, value = value, self.shared.run(value.__anext__())
            stack.callback(lambda: self.shared.run(ended(generator)))
        return value

    def getfixturevalue(self, name):
        return self.provide(name)

    def addfinalizer(self, function):
        self.stack.callback(function)


class Requesting:
    """What a fixture gets as `request`."""

    def __init__(self, request, param, has_param, stack):
        self.of, self.stack = request, stack
        if has_param:
            self.param = param

    def addfinalizer(self, function):
        self.stack.callback(function)

    def __getattr__(self, name):
        if name == "param" or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.of, name)


async def ended(generator):
    """Run an asynchronous fixture to its end."""
    async for _ in generator:
        pass


class Shared:
    """What outlives one test: fixtures of wider scope, the event loop."""

    def __init__(self, module, candidate):
        self.module, self.candidate = module, candidate
        self.scopes = {scope: ({}, contextlib.ExitStack()) for scope in ("module", "class")}
        self.loop = None

    def of(self, scope):
        if scope not in self.scopes:
            raise TestsError("the tests use a fixture of the scope %r, which there is not" % scope)
        return self.scopes[scope]

    def end(self, scope):
        """Give back what was made for a scope."""
        self.scopes[scope][1].close()
        self.scopes[scope][0].clear()

    def run(self, coroutine):
        """A coroutine's result, on one loop for all tests."""
        import asyncio

        if self.loop is None:
            self.loop = asyncio.new_event_loop()
        return self.loop.run_until_complete(coroutine)


def fixtures_of(holder, parents):
    """Fixtures by name: those of a class beside those of the module, which they cover."""
    found = dict(parents)
    levels = reversed(holder.__mro__) if isinstance(holder, type) else [holder]
    for level in levels:
        for name, value in level.__dict__.items():
            if type(value) is Fixture:
                found[value.name or name] = value
    return found


def fixture_cases(request):
    """Which parameters each case gives to fixtures that have some: (index, value) by name."""
    cases = [{}]
    for name in request:
        fixture = request[name]
        values = [(i, p.values[0] if type(p) is Param else p) for i, p in enumerate(fixture.params)]
        cases = [dict(case, **{name: value}) for case in cases for value in values]
    return cases


def built_in(name, shared):
    """A context that gives what pytest knows by this name."""
    if name in ("capsys", "capfd"):
        return captured()
    if name == "tmp_path":
        return contextlib.nullcontext(pathlib.Path(tempfile.mkdtemp(dir=os.getcwd())))
    if name == "tmp_path_factory":
        return contextlib.nullcontext(PathFactory())
    if name == "monkeypatch":
        return MonkeyPatch(shared.candidate)
    if name == "recwarn":
        return Warns(required=False)
    if name == "event_loop":
        raise TestsError("the tests use the fixture 'event_loop'; tests may be async functions instead")
    raise TestsError("the tests use the fixture %r, which they do not define and which is not there" % name)


class PathFactory:
    """What pytest calls tmp_path_factory."""

    def mktemp(self, basename, numbered=True):
        """A new folder."""
        return pathlib.Path(tempfile.mkdtemp(prefix=basename, dir=os.getcwd()))

    def getbasetemp(self):
        """The folder above."""
        return pathlib.Path(os.getcwd())


class Capture:
    """What pytest calls capsys."""

    def __init__(self, out, err):
        self.out, self.err = out, err

    def readouterr(self):
        """What was printed since the last time."""
        texts = []
        for stream in (self.out, self.err):
            texts.append(stream.getvalue())
            stream.seek(0)
            stream.truncate()
        return Captured(*texts)

    @contextlib.contextmanager
    def disabled(self):
        """Print past it."""
        with contextlib.redirect_stdout(open(os.devnull, "w")), contextlib.redirect_stderr(open(os.devnull, "w")):
            yield


@contextlib.contextmanager
def captured():
    """Standard output and standard error of the test and of the program."""
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        yield Capture(out, err)
