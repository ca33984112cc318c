"""Assertions that say what was expected and what came, evaluated where no code of the candidate runs."""

from __future__ import annotations

import ast
import math
import re
import types

TEXT = 600


class CheckError(AssertionError):
    """An assertion of the tests does not hold."""

    def __init__(self, source, expected="", got="", message=""):
        super().__init__(message or source)
        self.detail = {
            "assertion": source[:TEXT],
            "expected": expected[:TEXT],
            "got": got[:TEXT],
            "error": message[:TEXT],
        }


COMPARE = {
    "Eq": lambda a, b: a == b, "NotEq": lambda a, b: a != b, "Lt": lambda a, b: a < b, "LtE": lambda a, b: a <= b,
    "Gt": lambda a, b: a > b, "GtE": lambda a, b: a >= b, "Is": lambda a, b: a is b, "IsNot": lambda a, b: a is not b,
    "In": lambda a, b: a in b, "NotIn": lambda a, b: a not in b,
}  # fmt: skip


def check_compare(left, operator, right, source, message):
    """`assert left OP right`, with both values in the failure."""
    if not COMPARE[operator](left, right):
        raise CheckError(source, short(right), short(left), str(message()) if message else "")


def check_true(value, source, message):
    """`assert value`."""
    if not value:
        raise CheckError(source, "a true value", short(value), str(message()) if message else "")


class AssertRewriter(ast.NodeTransformer):
    """Turns assert statements into calls that say what was expected and what came."""

    def visit_Assert(self, node):  # noqa: N802 - the name that ast asks for
        self.generic_visit(node)
        source = ast.Constant(value=ast.unparse(node)) if hasattr(ast, "unparse") else ast.Constant(value="assert")
        nothing = ast.arguments(posonlyargs=[], args=[], kwonlyargs=[], kw_defaults=[], defaults=[])
        message = ast.Lambda(args=nothing, body=node.msg) if node.msg else ast.Constant(value=None)
        test = node.test
        if isinstance(test, ast.Compare) and len(test.ops) == 1:
            operator = ast.Constant(value=type(test.ops[0]).__name__)
            call = self.call("check_compare", [test.left, operator, test.comparators[0], source, message])
        else:
            call = self.call("check_true", [test, source, message])
        return ast.copy_location(ast.Expr(value=call), node)

    def call(self, name, args):
        return ast.Call(func=ast.Name(id="__nad_%s__" % name, ctx=ast.Load()), args=args, keywords=[])


def short(value):
    """A bounded repr."""
    try:
        text = repr(value)
    except Exception as error:
        text = "<no repr: %s>" % error
    return text if len(text) <= TEXT else text[:TEXT] + "..."


def pytest_stand_in():
    """What tests use most of pytest, where the image has none: raises, approx, mark.parametrize."""

    class Raises:
        def __init__(self, kinds, match=None):
            self.kinds, self.match, self.value = kinds, match, None

        def __enter__(self):
            return self

        def __exit__(self, kind, error, _trace):
            if kind is None:
                raise CheckError("pytest.raises(%s)" % short(self.kinds), short(self.kinds), "no exception")
            if not issubclass(kind, self.kinds):
                return False
            if self.match is not None:
                if not re.search(self.match, str(error)):
                    raise CheckError("pytest.raises", "a message like %r" % self.match, str(error))
            self.value = error
            return True

    class Approx:
        def __init__(self, expected, rel=1e-6, abs=1e-12):
            self.expected, self.rel, self.abs = expected, rel, abs

        def __eq__(self, other):
            pairs = zip(self.expected, other) if isinstance(self.expected, (list, tuple)) else [(self.expected, other)]
            return all(math.isclose(a, b, rel_tol=self.rel, abs_tol=self.abs) for a, b in pairs)

        def __repr__(self):
            return "approx(%r)" % (self.expected,)

    def parametrize(names, values):
        count = len(names.split(",") if isinstance(names, str) else names)

        def mark(function):
            function.nad_parameters = [(v,) if count == 1 else tuple(v) for v in values]
            return function

        return mark

    module = types.ModuleType("pytest")
    module.raises, module.approx = Raises, Approx
    module.mark = types.SimpleNamespace(parametrize=parametrize)
    return module
