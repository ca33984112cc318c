"""Assertions that say what was expected and what came, evaluated where no code of the candidate runs."""

from __future__ import annotations

import ast

TEXT = 600


class TestsError(BaseException):
    """The tests use something that cannot work here; no candidate is to blame."""

    __test__ = False


class CheckError(AssertionError):
    """An assertion of the tests does not hold."""

    def __init__(self, source, expected="", got="", message=""):
        super().__init__(message or source)
        self.detail = {"assertion": source, "expected": expected, "got": got, "error": message}


COMPARE = {
    "Eq": lambda a, b: a == b, "NotEq": lambda a, b: a != b, "Lt": lambda a, b: a < b, "LtE": lambda a, b: a <= b,
    "Gt": lambda a, b: a > b, "GtE": lambda a, b: a >= b, "Is": lambda a, b: a is b, "IsNot": lambda a, b: a is not b,
    "In": lambda a, b: a in b, "NotIn": lambda a, b: a not in b,
}  # fmt: skip


def made_checks(made=[0], more=0):  # noqa: B006 - one count for the whole process
    """How many assertions were evaluated."""
    made[0] += more
    return made[0]


def check_compare(left, operator, right, source, message):
    """`assert left OP right`, with both values in the failure."""
    made_checks(more=1)
    if not COMPARE[operator](left, right):
        raise CheckError(source, short(right), short(left), str(message()) if message else "")


def check_true(value, source, message):
    """`assert value`."""
    made_checks(more=1)
    if not value:
        raise CheckError(source, "a true value", short(value), str(message()) if message else "")


class AssertRewriter(ast.NodeTransformer):
    """Turns assert statements into calls that say what was expected and what came."""

    def visit_Assert(self, node):
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
    except BaseException as error:  # the candidate may be gone by now, and its objects with it
        text = "<no repr: %s>" % error
    return text if len(text) <= TEXT else text[:TEXT] + "..."
