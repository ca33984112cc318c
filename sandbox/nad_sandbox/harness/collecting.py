"""Running the user's tests: assert statements, unittest classes, pytest functions, with a stand-in for pytest."""

from __future__ import annotations

import ast
import contextlib
import inspect
import io
import itertools
import math
import os
import re
import sys
import tempfile
import types

from nad_sandbox.harness.asserting import AssertRewriter, CheckError, TestsError, check_compare, check_true, short


def run_tests(scope, tests, names):
    """Everything at the tests' top level, then unittest classes and pytest functions in order."""
    module = types.ModuleType("tests")
    module.__dict__.update(scope)
    module.__dict__.update(__nad_check_compare__=check_compare, __nad_check_true__=check_true)
    for name in names:
        alias = types.ModuleType(name)
        alias.__dict__.update(scope)
        sys.modules[name] = alias
    sys.modules["tests"] = module
    sys.modules["pytest"] = pytest_stand_in()
    tree = ast.fix_missing_locations(AssertRewriter().visit(ast.parse(tests, "tests.py")))
    exec(compile(tree, "tests.py", "exec"), module.__dict__)
    members = dict(module.__dict__)
    # imported only where the tests did: it takes as long as all else
    unittest = sys.modules.get("unittest")
    for name, value in list(members.items()):
        if unittest and isinstance(value, type) and issubclass(value, unittest.TestCase):
            run_unittest(unittest, value)
        elif name.startswith("test") and isinstance(value, types.FunctionType):
            run_function(value, members)
        elif name.startswith("Test") and isinstance(value, type):
            for method in [m for m in dir(value) if m.startswith("test")]:
                instance = value()
                getattr(instance, "setup_method", lambda *_: None)(*_setup_arguments(instance))
                run_function(getattr(instance, method), members)


def _setup_arguments(instance):
    setup = getattr(instance, "setup_method", None)
    return [None] if setup is not None and inspect.signature(setup).parameters else []


def run_unittest(unittest, case):
    """One TestCase class; the first failure is raised."""
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


def run_function(function, members):
    """One pytest function with its parameters and fixtures."""
    for given in parameter_sets(function):
        with contextlib.ExitStack() as stack:
            made = dict(given)
            fixtures = {name: f for name, f in members.items() if type(f) is Fixture}
            for fixture in [name for name, f in fixtures.items() if f.autouse]:
                provide(fixture, fixtures, made, stack)
            for parameter in inspect.signature(function).parameters.values():
                if parameter.name not in made and parameter.default is parameter.empty:
                    provide(parameter.name, fixtures, made, stack)
            wanted = inspect.signature(function).parameters
            call = {name: value for name, value in made.items() if name in wanted}
            result = function(**call)
            if inspect.iscoroutine(result):
                import asyncio

                asyncio.run(result)


def provide(name, fixtures, made, stack):
    """Make a fixture, and those that it needs."""
    if name in made:
        return made[name]
    if name == "capsys":
        made[name] = stack.enter_context(captured())
    elif name == "tmp_path":
        import pathlib

        made[name] = pathlib.Path(tempfile.mkdtemp(dir=os.getcwd()))
    elif name in fixtures:
        function = fixtures[name].function
        needs = {n: provide(n, fixtures, made, stack) for n in inspect.signature(function).parameters}
        value = function(**needs)
        if inspect.isgenerator(value):
            generator, value = value, next(value)
            stack.callback(next, generator, None)
        made[name] = value
    else:
        raise TestsError("the tests use the fixture %r, which they do not define" % name)
    return made[name]


@contextlib.contextmanager
def captured():
    """What pytest calls capsys."""
    out = io.StringIO()

    def readouterr():
        text = out.getvalue()
        out.seek(0)
        out.truncate()
        return types.SimpleNamespace(out=text, err="")

    with contextlib.redirect_stdout(out):
        yield types.SimpleNamespace(readouterr=readouterr)


def parameter_sets(function):
    """The keyword arguments of every case."""
    decorated = getattr(function, "nad_parameters", [])
    cases = [[dict(zip(names, values)) for values in sets] for names, sets in decorated]
    return [{k: v for case in combination for k, v in case.items()} for combination in itertools.product(*cases)]


class Raises:
    """What pytest.raises gives."""

    def __init__(self, kinds, match=None):
        self.kinds, self.match, self.value, self.type = kinds, match, None, None

    def __enter__(self):
        return self

    def __exit__(self, kind, error, _trace):
        if kind is None:
            raise CheckError("pytest.raises(%s)" % short(self.kinds), short(self.kinds), "no exception")
        if not issubclass(kind, self.kinds):
            return False
        if self.match is not None and not re.search(self.match, str(error)):
            raise CheckError("pytest.raises", "a message like %r" % self.match, str(error))
        self.value, self.type = error, kind
        return True


class Approx:
    """What pytest.approx gives."""

    def __init__(self, expected, rel=None, abs=None, nan_ok=False):
        self.expected, self.rel, self.abs, self.nan_ok = expected, rel, abs, nan_ok

    def near(self, a, b):
        if isinstance(a, (int, float, complex)) and isinstance(b, (int, float, complex)):
            if a == b or (self.nan_ok and a != a and b != b):
                return True
            if isinstance(a, complex) or isinstance(b, complex) or not (math.isfinite(a) and math.isfinite(b)):
                return abs(a - b) <= max((self.rel or 1e-6) * abs(b), self.abs or 1e-12)
            relative = 0.0 if self.abs is not None and self.rel is None else (self.rel or 1e-6) * abs(b)
            return abs(a - b) <= max(relative, 1e-12 if self.abs is None else self.abs)
        return a == b

    def __eq__(self, other):
        expected = self.expected
        if isinstance(expected, (list, tuple)):
            return (
                isinstance(other, (list, tuple))
                and len(expected) == len(other)
                and all(map(self.near, other, expected))
            )
        if isinstance(expected, dict):
            return (
                isinstance(other, dict)
                and expected.keys() == other.keys()
                and all(self.near(other[key], expected[key]) for key in expected)
            )
        return self.near(other, expected)

    def __repr__(self):
        return "approx(%r)" % (self.expected,)


class Marks:
    """What pytest.mark gives: parametrize counts, skip and skipif leave a test out, other marks say nothing."""

    def __getattr__(self, name):
        def mark(*args, **_kwargs):
            if name in ("xfail", "usefixtures"):
                raise TestsError("the tests use pytest.mark.%s, which is not there" % name)
            if name == "parametrize":
                return lambda function: parametrized(function, *args[:2])
            leave_out = name == "skip" or (name == "skipif" and args and args[0])
            marked = left_out if leave_out else lambda function: function
            bare = len(args) == 1 and isinstance(args[0], (types.FunctionType, type))
            return marked(args[0]) if bare else marked

        return mark


def parametrized(function, names, sets):
    """Remember the parameters of a test."""
    names = [n.strip() for n in names.split(",")] if isinstance(names, str) else list(names)
    rows = [row.values if type(row) is Param else (row,) if len(names) == 1 else tuple(row) for row in sets]
    function.nad_parameters = [*getattr(function, "nad_parameters", []), (names, rows)]
    return function


class Param:
    """What pytest.param gives."""

    def __init__(self, *values, **_options):
        self.values = values


def left_out(function):
    """A test that is not run."""
    function.nad_parameters = [([], [])]
    return function


class Fixture:
    """A function that makes what tests ask for by name."""

    def __init__(self, function, autouse):
        self.function, self.autouse = function, autouse


def fixture(function=None, **options):
    """pytest.fixture, with and without arguments; every test gets its own."""
    if function is None:
        return lambda f: fixture(f, **options)
    if "params" in options:
        raise TestsError("the tests use pytest.fixture(params=...), which is not there; use mark.parametrize")
    return Fixture(function, bool(options.get("autouse")))


def fail(reason="", **_options):
    """pytest.fail."""
    raise CheckError("pytest.fail", message=str(reason))


def raises(kinds, *args, match=None, **kwargs):
    """pytest.raises, as a context and with a function."""
    context = Raises(kinds, match)
    if not args:
        return context
    with context:
        args[0](*args[1:], **kwargs)
    return context


def pytest_stand_in():
    """What tests use most of pytest, which the image need not have."""

    class Module(types.ModuleType):
        def __getattr__(self, name):
            if name.startswith("__"):
                raise AttributeError(name)
            raise TestsError("the tests use pytest.%s, which is not there" % name)

    module = Module("pytest")
    module.raises, module.approx, module.fixture, module.fail, module.mark = raises, Approx, fixture, fail, Marks()
    module.param = Param
    module.main = lambda *_args, **_options: 0
    return module
