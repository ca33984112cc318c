"""Tests that are functions and classes: pytest's, with a stand-in for it, and unittest's."""

from __future__ import annotations

import contextlib
import inspect
import re
import sys
import types

from nad_sandbox.harness.arranging import (
    Fixture,
    LeftOutError,
    Marks,
    Param,
    fail,
    fixture,
    importorskip,
    marks_of,
    parameter_sets,
    skip,
)  # fmt: skip
from nad_sandbox.harness.asserting import (
    CheckError,
    TestsError,
)  # fmt: skip
from nad_sandbox.harness.changing import MonkeyPatch, share_mock_patches
from nad_sandbox.harness.comparing import Approx, deprecated_call, raises, warns
from nad_sandbox.harness.requesting import Request, Shared, fixture_cases, fixtures_of


class Collected:
    """The tests of one module."""

    def __init__(self, candidate, module, tests):
        self.module, self.shared = module, Shared(module, candidate)
        sys.modules["pytest"] = pytest_stand_in(candidate)
        if re.search(r"\bmock\b", tests):
            share_mock_patches(candidate)

    def run(self, program):
        """Run the module, and then all tests in it; how many there were."""
        try:
            exec(program, self.module.__dict__)
        except LeftOutError:
            raise TestsError("the tests leave themselves out with pytest.skip") from None
        # imported only where the tests did: it takes as long as all else
        self.unittest, self.members = sys.modules.get("unittest"), dict(self.module.__dict__)
        self.fixtures, count = fixtures_of(self.module, {}), 0
        self.call("setup_module", self.module)
        for name, value in self.members.items():
            if self.unittest and isinstance(value, type) and issubclass(value, self.unittest.TestCase):
                count += run_unittest(self.unittest, value)
            elif name.startswith("test") and isinstance(value, types.FunctionType):
                count += self.run_function(value, None, [self.module, value], self.fixtures)
            elif name.startswith("Test") and isinstance(value, type):
                count += self.run_class(value, [self.module], self.fixtures)
        self.shared.end("module")
        self.call("teardown_module", self.module)
        return count

    def call(self, name, argument, holder=None):
        """A set-up function by its name, where there is one, with or without the argument."""
        function = self.members.get(name) if holder is None else getattr(holder, name, None)
        if function is not None and callable(function) and type(function) is not Fixture:
            function(*[argument][: len(inspect.signature(function).parameters)])

    def run_class(self, kind, outer, fixtures):
        """The methods of a class, in the order of their definition, and of the classes in it."""
        if kind.__init__ is not object.__init__:
            return 0  # as pytest has it
        count, holders = 0, [*outer, kind]
        fixtures = fixtures_of(kind, fixtures)
        self.call("setup_class", kind, kind)
        names = dict.fromkeys(name for level in reversed(kind.__mro__) for name in level.__dict__)
        for name in names:
            value = getattr(kind, name)
            if name.startswith("Test") and isinstance(value, type):
                count += self.run_class(value, holders, fixtures)
            elif name.startswith("test") and callable(value):
                count += self.run_function(value, kind, [*holders, value], fixtures)
        self.shared.end("class")
        self.call("teardown_class", kind, kind)
        return count

    def run_function(self, function, kind, holders, fixtures):
        """One test with all its cases."""
        marks, count = marks_of(*holders), 0
        taken = [p.name for p in inspect.signature(function).parameters.values() if p.default is p.empty]
        taken = taken[taken[:1] == ["self"] :][given_by_mock(function) :]
        used = [name for mark in marks if mark.name == "usefixtures" for name in mark.args]
        automatic = [name for name, value in fixtures.items() if value.autouse]
        for direct, indirect, own in parameter_sets(marks):
            names = [*automatic, *used, *[name for name in taken if name not in direct]]
            needed = Request(self.shared, fixtures, None, Node(function), {}).wanted(names)
            parametrized = {
                n: fixtures[n] for n in needed if n in fixtures and fixtures[n].params and n not in indirect
            }
            for case in fixture_cases(parametrized):
                case.update({name: (repr(value), value) for name, value in indirect.items()})
                instance = kind() if kind is not None else None
                request = Request(self.shared, fixtures, instance, Node(function), case)
                count += self.run_marked(request, [*marks, *own], names, direct, taken)
        return count

    def run_marked(self, request, marks, names, direct, taken):
        """One case, unless it is left out; one that is expected to fail may."""
        if any(mark.name in ("skip", "skipif") and mark.applies() for mark in marks):
            return 0
        expected = [mark for mark in marks if mark.name == "xfail" and mark.applies()]
        try:
            self.run_case(request, names, direct, taken)
        except LeftOutError:
            return 0
        except Exception as error:
            if self.unittest and isinstance(error, self.unittest.SkipTest):
                return 0
            if not expected or not isinstance(error, expected[0].kwargs.get("raises") or Exception):
                raise
            return 1
        if expected and expected[0].kwargs.get("strict"):
            raise CheckError(request.node.name, message="it was expected to fail")
        return 1

    def run_case(self, request, names, direct, taken):
        """Set up, call, give back."""
        function, instance = request.function, request.instance
        with request.stack, contextlib.ExitStack() as around:
            if instance is None:
                self.call("setup_function", function)
                around.callback(self.call, "teardown_function", function)
            else:
                self.call("setup_method", function, instance)
                around.callback(self.call, "teardown_method", function, instance)
            made = {name: request.provide(name) for name in names}
            made.update(direct)
            given = {name: made[name] for name in taken}
            given.update({name: value for name, value in direct.items() if name not in taken})
            result = function(**given) if instance is None else getattr(instance, request.node.name)(**given)
            if inspect.iscoroutine(result):
                self.shared.run(result)


def given_by_mock(function):
    """How many arguments, the first ones, `mock.patch` as a decorator gives."""
    patches = getattr(function, "patchings", [])
    return sum(patch.attribute_name is None and repr(patch.new) == "sentinel.DEFAULT" for patch in patches)


class Node:
    """What is known of a test by its fixtures."""

    def __init__(self, function):
        self.function, self.name = function, function.__name__
        self.originalname = self.nodeid = self.name


def run_unittest(unittest, case):
    """One TestCase class; the first failure is raised. How many tests it has."""
    kept = []

    class Result(unittest.TestResult):
        def addFailure(self, test, err):
            kept.append((test, err[1]))
            super().addFailure(test, err)

        def addError(self, test, err):
            self.addFailure(test, err)

        def addSubTest(self, test, subtest, err):
            if err is not None:
                kept.append((subtest, err[1]))
            super().addSubTest(test, subtest, err)

    result = Result()
    unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)
    for test, error in kept:
        if isinstance(error, AssertionError) and not isinstance(error, CheckError):
            raise CheckError(test.id(), message=str(error).strip())
        raise error
    if result.unexpectedSuccesses:
        raise CheckError(result.unexpectedSuccesses[0].id(), message="it was expected to fail")
    return result.testsRun


def pytest_stand_in(candidate):
    """What tests use most of pytest, which the image need not have."""

    class Module(types.ModuleType):
        def __getattr__(self, name):
            if name.startswith("__"):
                raise AttributeError(name)
            raise TestsError("the tests use pytest.%s, which is not there" % name)

    class Patching:
        """pytest.MonkeyPatch: made by hand, or as a context."""

        def __new__(cls):
            return MonkeyPatch(candidate)

        @staticmethod
        def context():
            return MonkeyPatch(candidate)

    module = Module("pytest")
    module.raises, module.approx, module.fixture, module.fail, module.mark = raises, Approx, fixture, fail, Marks()
    module.warns, module.deprecated_call, module.skip, module.xfail = warns, deprecated_call, skip, skip
    module.importorskip, module.param, module.MonkeyPatch = importorskip, Param, Patching
    module.main = lambda *_args, **_options: 0
    for kind in ("Item FixtureRequest MonkeyPatch CaptureFixture LogCaptureFixture TempPathFactory").split():
        module.__dict__.setdefault(kind, object)  # for type hints
    return module
