"""How tests are marked: parameters, fixtures, what is left out and what is expected to fail."""

from __future__ import annotations

import importlib
import inspect
import itertools
import types

from nad_sandbox.harness.asserting import CheckError, TestsError


class LeftOutError(BaseException):
    """A test ended itself with pytest.skip or pytest.xfail."""


class Mark:
    """One mark: a name with arguments, which decorates."""

    def __init__(self, name, args, kwargs):
        self.name, self.args, self.kwargs = name, args, kwargs

    def __call__(self, *args, **kwargs):
        if len(args) == 1 and not kwargs and isinstance(args[0], (types.FunctionType, type)):
            marked = args[0]
            # not those that a base class has: each class keeps its own
            own = marked.__dict__.get("pytestmark", [])
            marked.pytestmark = [*(own if isinstance(own, list) else [own]), self]
            return marked
        return Mark(self.name, self.args + args, dict(self.kwargs, **kwargs))

    def applies(self):
        """Whether a skipif or xfail holds: it has no condition, or one that is true."""
        conditions = [c for c in self.args if not isinstance(c, str)] + (
            [self.kwargs["condition"]] if "condition" in self.kwargs else []
        )
        if self.name == "skipif" and not conditions:
            raise TestsError("the tests use pytest.mark.skipif with a condition as text; write it as an expression")
        return not conditions or any(conditions)


class Marks:
    """What pytest.mark gives; a mark without a meaning here says nothing."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Mark(name, (), {})


def marks_of(*holders):
    """All marks of a module, its classes and a function, outermost first."""
    found = []
    for holder in holders:
        levels = reversed(holder.__mro__) if isinstance(holder, type) else [holder]
        for level in levels:
            own = level.__dict__.get("pytestmark", [])
            found += own if isinstance(own, (list, tuple)) else [own]
    return found


class Param:
    """What pytest.param gives."""

    def __init__(self, *values, id=None, marks=()):
        self.values = values
        self.marks = list(marks) if isinstance(marks, (list, tuple)) else [marks]


def parameter_sets(marks):
    """For every case: direct arguments, parameters for fixtures, and marks of its own."""
    columns = []
    for mark in marks:
        if mark.name != "parametrize":
            continue
        names, rows = parametrization(*mark.args, **mark.kwargs)
        columns.append([(dict(zip(names[0], values)), names[1], own) for values, own in rows])
    cases = []
    # the decorator nearest to the function varies slowest
    for combination in itertools.product(*columns[::-1]):
        direct, indirect, own = {}, {}, []
        for values, through, extra in combination:
            for name, value in values.items():
                (indirect if through is True or (through and name in through) else direct)[name] = value
            own += extra
        cases.append((direct, indirect, own))
    return cases


def parametrization(argnames, argvalues, indirect=False, ids=None, scope=None):
    """Names and rows of one parametrize, each row with marks of its own."""
    names = [n.strip() for n in argnames.split(",") if n.strip()] if isinstance(argnames, str) else list(argnames)
    rows = []
    for row in argvalues:
        own = row.marks if type(row) is Param else []
        values = row.values if type(row) is Param else (row,) if len(names) == 1 else tuple(row)
        if len(values) != len(names):
            raise TestsError("pytest.mark.parametrize names %r and has the values %r" % (argnames, values))
        rows.append((values, own))
    return (names, indirect), rows


class Fixture:
    """A function that makes what tests ask for by name."""

    def __init__(self, function, scope="function", params=None, autouse=False, ids=None, name=None):
        self.function, self.autouse, self.name = function, autouse, name
        self.scope = "function" if callable(scope) else scope
        self.params = None if params is None else list(params)

    @property
    def needs(self):
        """Names of its parameters without a default, `self` left out."""
        parameters = inspect.signature(self.function).parameters.values()
        return [p.name for p in parameters if p.name != "self" and p.default is p.empty]


def fixture(function=None, **options):
    """pytest.fixture, with and without arguments."""
    if function is None:
        return lambda f: Fixture(f, **options)
    return Fixture(function, **options)


def skip(reason="", allow_module_level=False):
    """pytest.skip."""
    raise LeftOutError(str(reason))


def fail(reason="", pytrace=True, **_options):
    """pytest.fail."""
    raise CheckError("pytest.fail", message=str(reason))


def importorskip(name, **_options):
    """pytest.importorskip; a module that is not there is no reason to pass."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise TestsError("the tests need the module %r, which is not in the sandbox" % name) from None
