"""What `pytest.approx`, `pytest.raises` and `pytest.warns` give to tests."""

from __future__ import annotations

import math
import re

from nad_sandbox.harness.asserting import CheckError, short


class Raises:
    """What pytest.raises gives: a context, and afterwards what is known of the exception."""

    def __init__(self, kinds, pattern=None):
        self.kinds, self.pattern, self.value, self.type = kinds, pattern, None, None

    def __enter__(self):
        return self

    def __exit__(self, kind, error, _trace):
        if kind is None:
            raise CheckError("pytest.raises(%s)" % short(self.kinds), short(self.kinds), "no exception")
        if not issubclass(kind, self.kinds):
            return False
        self.value, self.type = error, kind
        if self.pattern is not None:
            self.match(self.pattern)
        return True

    @property
    def typename(self):
        return self.type.__name__

    @property
    def tb(self):
        return self.value.__traceback__

    def match(self, pattern):
        """Hold the exception's message against a pattern."""
        if not re.search(pattern, str(self.value)):
            raise CheckError(
                "pytest.raises", "a message like %r" % getattr(pattern, "pattern", pattern), str(self.value)
            )
        return True

    def errisinstance(self, kinds):
        return isinstance(self.value, kinds)

    def exconly(self, tryshort=False):
        return "%s: %s" % (self.typename, self.value)


def raises(kinds, *args, match=None, **kwargs):
    """pytest.raises, as a context and with a function."""
    context = Raises(kinds, match)
    if not args:
        return context
    with context:
        args[0](*args[1:], **kwargs)
    return context


class Warns:
    """What pytest.warns gives: a context, and a list of what was warned of."""

    def __init__(self, kinds=Warning, match=None, required=True):
        import warnings

        self.kinds, self.pattern, self.required = kinds, match, required
        self.catching, self.list = warnings.catch_warnings(record=True), []

    def __enter__(self):
        import warnings

        self.list = self.catching.__enter__()
        warnings.simplefilter("always")
        return self

    def __exit__(self, *problem):
        self.catching.__exit__(*problem)
        if problem[0] is not None or not self.required:
            return
        found = [w for w in self.list if issubclass(w.category, self.kinds)]
        if not any(self.pattern is None or re.search(self.pattern, str(w.message)) for w in found):
            raise CheckError(
                "pytest.warns(%s)" % short(self.kinds),
                short(self.kinds) + (" like %r" % self.pattern if self.pattern else ""),
                ", ".join(str(w.message) for w in self.list) or "no warning",
            )

    def __len__(self):
        return len(self.list)

    def __iter__(self):
        return iter(self.list)

    def __getitem__(self, i):
        return self.list[i]

    def pop(self, kind=Warning):
        """The first of a kind."""
        for i, warned in enumerate(self.list):
            if issubclass(warned.category, kind):
                return self.list.pop(i)
        raise CheckError("recwarn.pop", short(kind), "no such warning")

    def clear(self):
        self.list[:] = []


def warns(kinds=Warning, *args, match=None, **kwargs):
    """pytest.warns, as a context and with a function."""
    if not args:
        return Warns(kinds, match)
    with Warns(kinds, match):
        return args[0](*args[1:], **kwargs)


def deprecated_call(match=None):
    """pytest.deprecated_call."""
    return Warns((DeprecationWarning, PendingDeprecationWarning, FutureWarning), match)


class Approx:
    """What pytest.approx gives."""

    # numpy must leave comparisons to this class
    __array_ufunc__ = None

    def __init__(self, expected, rel=None, abs=None, nan_ok=False):
        self.expected, self.rel, self.abs, self.nan_ok = expected, rel, abs, nan_ok

    def near(self, a, b):
        if isinstance(a, (int, float, complex)) and isinstance(b, (int, float, complex)):
            if a == b or (self.nan_ok and a != a and b != b):
                return True
            if not all(math.isfinite(part) for x in (a, b) for part in (x.real, x.imag)):
                return False
            relative = 0.0 if self.abs is not None and self.rel is None else (self.rel or 1e-6) * abs(b)
            return abs(a - b) <= max(relative, 1e-12 if self.abs is None else self.abs)
        return a == b

    def __eq__(self, other):
        expected = plain(self.expected)
        other = plain(other)
        if isinstance(expected, (list, tuple)):
            return (
                isinstance(other, (list, tuple))
                and len(expected) == len(other)
                and all(Approx(e, self.rel, self.abs, self.nan_ok) == o for e, o in zip(expected, other))
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


def plain(value):
    """Arrays as lists."""
    return value.tolist() if type(value).__module__ == "numpy" else value
