"""Rewrite the tests' assertions: they report the expected and the actual value, are counted, and cannot be fooled.

Rewritten assertions call functions whose names begin with "@", which no test can write. Python looks these names up
among the built-in ones, so the tests' own namespace does not change.
"""

from __future__ import annotations

import sys

from nad_sandbox.harness.equality import ATOMS, always_equal, suits_too_much
from nad_sandbox.harness.program import PROGRAM_FILE, PROGRAM_MODULES

TESTS_FILE = "tests.py"
COMPARISONS_OF_NODES = {
    "Eq": lambda a, b: a == b, "NotEq": lambda a, b: a != b, "Lt": lambda a, b: a < b, "LtE": lambda a, b: a <= b,
    "Gt": lambda a, b: a > b, "GtE": lambda a, b: a >= b, "Is": lambda a, b: a is b, "IsNot": lambda a, b: a is not b,
    "In": lambda a, b: a in b, "NotIn": lambda a, b: a not in b,
}  # fmt: skip
POSITION = ("lineno", "col_offset", "end_lineno", "end_col_offset")
CATCHES = "catches"
RUNNERS = (("unittest", "main"), ("pytest", "main"))


class CheckError(AssertionError):
    """Raised when an assertion of the tests does not hold."""

    def __init__(self, message, detail):
        super().__init__(message)
        self.detail = detail


class Assertions:
    """Evaluates the assertions of rewritten tests.

    Args:
        tests: Source of the tests, quoted in the report.
        short_repr: Function that returns the repr of a value, cut to a bounded length.
    """

    def __init__(self, tests, short_repr):
        self.lines = tests.splitlines(True)
        self.equal_to_all = ("_ANY",) if "ANY" in tests else ()
        self.places = []
        self.short_repr = short_repr
        self.evaluated = 0
        self.last = ()
        self.failure = None  # first failure that the program may have swallowed

    def names(self):
        """Return the functions that rewritten tests call, by name."""
        return {
            "@compare": self.compare,
            "@holds": self.holds,
            "@failed": self.failed,
            "@honest": self.honest,
            "@counted": self.counted,
            "@together": self.together,
        }

    def compare(self, operator, left, right):
        """Evaluate `left OP right`, count it, and keep the operands of a comparison that fails."""
        self.evaluated += 1
        if operator == "Eq":
            self.see_that_they_differ(left, right)
        result = COMPARISONS_OF_NODES[operator](left, right)
        # operands of a passed comparison are released: a test may check that an object was garbage-collected
        self.last = () if result is True else (left, right)
        return result

    def holds(self, value):
        """Count an assertion on a single value, and return the value."""
        self.evaluated += 1
        self.last = () if value is True else (value,)
        return value

    def counted(self, method):
        """Count a method whose name begins with "assert" before it is called, and return it."""
        self.evaluated += 1
        return method

    def failed(self, number, *message):
        """Return the exception for an assertion that does not hold."""
        place, may_be_swallowed = self.places[number]
        text = segment(self.lines, place)
        values = list(map(self.short_repr, self.last))
        expected, got = (values[1], values[0]) if len(values) == 2 else ("a true value", "".join(values))
        self.last = ()
        said = str(message[0]) if message else ""
        detail = {"assertion": "assert " + text, "expected": expected, "got": got, "error": said}
        error = CheckError(said or "assert " + text, {key: value[:600] for key, value in detail.items()})
        if may_be_swallowed or called_by_program():
            self.failure = self.failure or error
        return error

    def honest(self, value):
        """Return the value.

        Raises:
            CheckError: The value compares equal to everything.
        """
        if type(value) not in ATOMS and always_equal(value, self.equal_to_all):
            shown = self.short_repr(value)
            detail = {"error": "the program's value compares equal to everything", "got": shown}
            self.failure = self.failure or CheckError("a value that compares equal to everything", detail)
            raise self.failure
        return value

    def together(self, *values):
        """Return the arguments of an assertion method after checking that they compare honestly with one another."""
        for value in values:
            self.honest(value)
        if len(values) > 1:
            self.see_that_they_differ(values[0], values[1])
        return values

    def see_that_they_differ(self, one, other):
        """Raise CheckError if a value equals not only the expected plain value but also most other values."""
        for value, expected in ((one, other), (other, one)):
            if type(value).__name__ not in self.equal_to_all and suits_too_much(value, expected):
                detail = {"error": "the program's value compares equal to whatever is expected"}
                self.failure = self.failure or CheckError("a value that compares equal to whatever is expected", detail)
                raise self.failure


def called_by_program():
    """Return whether the program called the function that asserts, so that it may swallow the assertion's exception."""
    frame = sys._getframe(2)
    while frame is not None:
        if frame.f_code.co_filename == PROGRAM_FILE:
            return True
        frame = frame.f_back
    return False


def segment(lines, place):
    """Return the source between two positions, joined into one line."""
    line, column, end_line, end_column = place
    taken = [text.encode("utf-8", "surrogatepass") for text in lines[line - 1 : end_line]]
    if not taken:
        return ""
    taken[-1] = taken[-1][:end_column]
    taken[0] = taken[0][column:]
    return b" ".join(part.strip() for part in taken).decode("utf-8", "replace")


class AssertionRewriter:
    """Rewrites the syntax tree of tests.

    It uses the node types of `_ast`, since importing `ast` takes longer than the rewriting.
    """

    def __init__(self, assertions):
        import _ast

        self.ast = _ast
        self.assertions = assertions
        self.blocks = []  # enclosing try and with statements, which may stop an exception

    def rewrite(self, tests):
        """Rewrite tests and compile them.

        Raises:
            SyntaxError: The tests are not valid in this version of Python.
        """
        tree = compile(tests, TESTS_FILE, "exec", 0x400, dont_inherit=True)  # PyCF_ONLY_AST
        tree.body = [statement for statement in tree.body if not self.is_dropped(statement)]
        self.visit(tree)
        if not tree.body:
            return compile("", TESTS_FILE, "exec", dont_inherit=True)
        return compile(tree, TESTS_FILE, "exec", dont_inherit=True)

    def is_dropped(self, statement):
        """Return whether the harness does a statement's work anyway: import the program's names, or run the tests."""
        if isinstance(statement, self.ast.ImportFrom):
            return statement.module in PROGRAM_MODULES and statement.names[0].name == "*"
        call = getattr(statement, "value", None)
        if not isinstance(statement, self.ast.Expr) or not isinstance(call, self.ast.Call):
            return False
        owner = getattr(getattr(call.func, "value", None), "id", None)
        return (owner, getattr(call.func, "attr", None)) in RUNNERS

    def visit(self, node):
        """Rewrite the children of a node in place."""
        for field in node._fields:
            value = getattr(node, field, None)
            if isinstance(value, list):
                changed = []
                for item in value:
                    made = self.replacement(item) if isinstance(item, self.ast.AST) else item
                    changed += made if isinstance(made, list) else [made]
                setattr(node, field, changed)
            elif isinstance(value, self.ast.AST):
                setattr(node, field, self.replacement(value))

    def replacement(self, node):
        """Return the node that replaces a node; for an assert statement, a list of statements."""
        if isinstance(node, self.ast.Assert):
            return self.rewritten_assert(node)
        if isinstance(node, (self.ast.FunctionDef, self.ast.AsyncFunctionDef)):
            blocks, self.blocks = self.blocks, []
            self.visit(node)
            self.blocks = blocks
            return node
        block = self.block(node)
        if block:
            self.blocks.append(block)
            self.visit(node)
            self.blocks.pop()
            return node
        self.visit(node)
        if isinstance(node, self.ast.Compare):
            self.wrap_operands(node)
        elif isinstance(node, self.ast.Call) and isinstance(node.func, self.ast.Attribute):
            if node.func.attr.lower().startswith("assert"):
                if node.args:
                    values = self.call(node, "@together", *node.args)
                    node.args = [self.place(self.ast.Starred(value=values, ctx=self.ast.Load()), node)]
                node.func = self.call(node.func, "@counted", node.func)
        return node

    def block(self, node):
        """Return how a statement may stop exceptions inside it: the tests catch them, or a context manager may."""
        if isinstance(node, self.ast.Try) and node.handlers:
            return CATCHES
        if isinstance(node, (self.ast.With, self.ast.AsyncWith)):
            names = set()
            for item in node.items:
                function = getattr(item.context_expr, "func", None)
                names.add(getattr(function, "attr", None) or getattr(function, "id", ""))
            return CATCHES if any("raises" in name.lower() or name == "suppress" for name in names) else "with"
        return None

    def rewritten_assert(self, node):
        """Return the statements that evaluate an assertion and raise its exception when it does not hold."""
        test = node.test
        if isinstance(test, self.ast.BoolOp) and isinstance(test.op, self.ast.And) and node.msg is None:
            parts = [self.place(self.ast.Assert(test=value, msg=None), value) for value in test.values]
            return [statement for part in parts for statement in self.rewritten_assert(part)]
        number = len(self.assertions.places)
        place = tuple(getattr(test, name) for name in POSITION)
        self.assertions.places.append((place, bool(self.blocks) and CATCHES not in self.blocks))
        is_comparison = isinstance(test, self.ast.Compare) and len(test.ops) == 1
        test = self.replacement(test)
        if is_comparison:
            operator = self.constant(node, type(test.ops[0]).__name__)
            holds = self.call(node, "@compare", operator, test.left, test.comparators[0])
        else:
            holds = self.call(node, "@holds", test)
        message = [self.replacement(node.msg)] if node.msg is not None else []
        error = self.call(node, "@failed", self.constant(node, number), *message)
        negated = self.place(self.ast.UnaryOp(op=self.ast.Not(), operand=holds), node)
        raised = self.place(self.ast.Raise(exc=error, cause=None), node)
        return [self.place(self.ast.If(test=negated, body=[raised], orelse=[]), node)]

    def wrap_operands(self, node):
        if any(isinstance(operator, (self.ast.Is, self.ast.IsNot)) for operator in node.ops):
            return
        node.left = self.honest(node.left)
        node.comparators = [self.honest(operand) for operand in node.comparators]

    def honest(self, node):
        if isinstance(node, (self.ast.Constant, self.ast.Starred)):
            return node
        return self.call(node, "@honest", node)

    def call(self, place, name, *args):
        function = self.place(self.ast.Name(id=name, ctx=self.ast.Load()), place)
        return self.place(self.ast.Call(func=function, args=list(args), keywords=[]), place)

    def constant(self, place, value):
        return self.place(self.ast.Constant(value=value, kind=None), place)

    def place(self, node, other):
        """Give a node the source position of another one, and return the node."""
        for name in POSITION:
            setattr(node, name, getattr(other, name))
        return node
