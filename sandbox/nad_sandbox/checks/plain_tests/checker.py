"""Walk through tests once, and find the first thing in them that is not plain."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Callable, Collection
from typing import Any

from nad_sandbox.checks.plain_tests.changed_values import ChangedValues
from nad_sandbox.checks.plain_tests.names import Names, root_name

__all__ = ["find_obstacle"]

_MODULES = {"math", "random", "copy", "string", "typing", "__future__"}
_RANDOM = {
    "randint",
    "choice",
    "choices",
    "random",
    "uniform",
    "sample",
    "randrange",
    "shuffle",
    "Random",
    "getrandbits",
}
_DATA_BUILTINS = {
    "abs", "all", "any", "bin", "bool", "bytes", "chr", "complex", "dict", "divmod", "float", "frozenset", "hex", "int",
    "isinstance", "len", "list", "max", "min", "oct", "ord", "pow", "print", "repr", "round", "set", "sorted", "str",
    "sum", "tuple", "type",
}  # fmt: skip
_LAZY_BUILTINS = {"range", "zip", "enumerate", "map", "filter", "reversed"}
_CONSUMERS = {"all", "any", "dict", "frozenset", "list", "max", "min", "set", "sorted", "sum", "tuple"}
_TYPES = {
    "bool", "bytes", "complex", "dict", "float", "frozenset", "int", "list", "set", "str", "tuple", "NoneType",
    "bytearray", "object",
}  # fmt: skip
_METHODS = {
    "capitalize", "casefold", "center", "copy", "count", "decode", "difference", "encode", "endswith", "find", "format",
    "get", "hex", "index", "intersection", "is_integer", "isalnum", "isalpha", "isdigit", "isdisjoint", "islower",
    "isnumeric", "isspace", "issubset", "issuperset", "istitle", "isupper", "items", "join", "keys", "ljust", "lower",
    "lstrip", "partition", "removeprefix", "removesuffix", "replace", "rfind", "rjust", "rsplit", "rstrip", "split",
    "splitlines", "startswith", "strip", "swapcase", "symmetric_difference", "title", "union", "upper", "values",
    "zfill", "bit_length", "conjugate",
}  # fmt: skip
_CHANGES = {"append", "extend", "insert", "pop", "remove", "clear", "sort", "reverse", "update", "add", "discard"}
_EXCEPTIONS = {
    "ArithmeticError", "AssertionError", "AttributeError", "BaseException", "Exception", "IndexError", "KeyError",
    "LookupError", "NameError", "NotImplementedError", "OverflowError", "RecursionError", "RuntimeError",
    "StopIteration", "TypeError", "ValueError", "ZeroDivisionError",
}  # fmt: skip
_STATEMENTS = (
    ast.Assert, ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Expr, ast.For, ast.While, ast.If, ast.Try, ast.Pass,
    ast.Return, ast.Break, ast.Continue, ast.Raise, ast.Import, ast.ImportFrom, ast.FunctionDef,
)  # fmt: skip
_PLAIN = (
    ast.Module, ast.Constant, ast.List, ast.Tuple, ast.Set, ast.Dict, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.IfExp,
    ast.Subscript, ast.Slice, ast.ListComp, ast.SetComp, ast.DictComp, ast.JoinedStr, ast.FormattedValue, ast.Starred,
    ast.comprehension, ast.keyword, ast.ExceptHandler, ast.alias, ast.arguments, ast.arg, ast.expr_context,
    ast.operator, ast.unaryop, ast.boolop, ast.cmpop, *_STATEMENTS,
)  # fmt: skip

# a built-in function or class that is named inside one of these becomes a value that may be passed on
_HOLDERS = (
    ast.Call,
    ast.Assign,
    ast.AnnAssign,
    ast.List,
    ast.Dict,
    ast.Set,
    ast.Return,
    ast.Starred,
    ast.comprehension,
)


class _ObstacleError(Exception):
    pass


def find_obstacle(tree: ast.Module, subjects: Collection[str], program_modules: Collection[str]) -> str:
    """Return why tests cannot be judged in a separate process; empty when they can.

    Args:
        tree: Syntax tree of the tests.
        subjects: Names that the tests take from the program.
        program_modules: Modules under which the tests can import the program.
    """
    try:
        _Checker(tree, frozenset(subjects), frozenset(program_modules)).check()
    except _ObstacleError as obstacle:
        return str(obstacle)
    except RecursionError:
        return "the tests are nested too deep to be looked through"
    return ""


class _Checker:
    """Walks through tests once, and raises for the first thing that is not plain."""

    def __init__(self, tree: ast.Module, subjects: frozenset[str], program_modules: frozenset[str]) -> None:
        self.tree = tree
        self.program_modules = program_modules
        self.names = Names(tree, subjects, program_modules)
        self.values = ChangedValues(self.names)

    def check(self) -> None:
        for node in ast.walk(self.tree):
            self.see(node)
        if changed := self.values.find():
            name, line = changed
            self.refuse(f"{name!r}, which the program gave or was given, is changed at line {line}")

    def refuse(self, what: str) -> None:
        raise _ObstacleError(what)

    def see(self, node: ast.AST) -> None:
        """Refuse a node that is not plain.

        Raises:
            _ObstacleError: The node is not plain.
        """
        looks: tuple[tuple[Any, Callable[[Any], None]], ...] = (
            (ast.Import | ast.ImportFrom, self.see_import),
            (ast.Call, self.see_call),
            (ast.Attribute, self.see_attribute),
            (ast.Name, self.see_name),
            (ast.Compare, self.see_comparison),
            (ast.GeneratorExp | ast.Lambda, self.see_function_or_generator),
            (ast.FunctionDef, self.see_definition),
        )
        for kind, look in looks:
            if isinstance(node, kind):
                look(node)
                break
        else:
            if not isinstance(node, _PLAIN):
                self.refuse(f"{type(node).__name__} at line {getattr(node, 'lineno', 0)}")
        self.values.follow(node)

    def see_comparison(self, node: ast.Compare) -> None:
        for operator, operand in zip(node.ops, node.comparators, strict=True):
            singleton = isinstance(operand, ast.Constant) and operand.value in (None, True, False)
            is_type = isinstance(operand, ast.Name) and operand.id in _TYPES
            if isinstance(operator, ast.Is | ast.IsNot) and not singleton and not is_type:
                self.refuse(f"identity is compared at line {node.lineno}")

    def see_function_or_generator(self, node: ast.GeneratorExp | ast.Lambda) -> None:
        if isinstance(node, ast.GeneratorExp) and not self.is_consumed(node):
            self.refuse(f"a generator is not used up at once at line {node.lineno}")
        is_key = isinstance(self.names.parents[id(node)], ast.keyword)
        if isinstance(node, ast.Lambda) and not is_key and not self.is_mapped(node):
            self.refuse(f"there is a function as a value at line {node.lineno}")

    def see_definition(self, node: ast.FunctionDef) -> None:
        if node.decorator_list or node.args.vararg or node.args.kwarg:
            self.refuse(f"the function {node.name!r} has decorators or variable parameters")
        if node.name.startswith("test") and node.args.args:
            self.refuse(f"the test {node.name!r} has parameters")
        if node.name.lower().startswith(("setup", "teardown", "pytest_")):
            self.refuse(f"pytest calls {node.name!r}")

    def see_import(self, node: ast.Import | ast.ImportFrom) -> None:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
        for name in names:
            if name not in _MODULES | self.program_modules:
                self.refuse(f"the module {name!r} is used")
        is_other = isinstance(node, ast.ImportFrom) and node.module not in self.program_modules
        if is_other and any(alias.name in ("seed", "*") for alias in node.names):
            self.refuse(f"{names[0]} is imported whole, or its seed is set")

    def see_call(self, call: ast.Call) -> None:
        function = call.func
        line = call.lineno
        if self.names.calls_program(call):
            for argument in [*call.args, *[keyword.value for keyword in call.keywords]]:
                self.see_argument(argument)
        elif isinstance(function, ast.Name):
            name = function.id
            if name in self.names.functions:
                return
            if name in _LAZY_BUILTINS:
                if not self.is_consumed(call):
                    self.refuse(f"{name}() is not used up at once at line {line}")
            elif name not in _DATA_BUILTINS | _EXCEPTIONS and name not in self.names.imported:
                self.refuse(f"{name}() is called at line {line}")
        elif isinstance(function, ast.Attribute):
            self.see_method(function, line)
        else:
            self.refuse(f"what is called at line {line} is an expression")

    def see_method(self, function: ast.Attribute, line: int) -> None:
        owner = function.value.id if isinstance(function.value, ast.Name) else ""
        if owner in self.names.modules:
            if self.names.modules[owner] == "random" and function.attr not in _RANDOM:
                self.refuse(f"random.{function.attr}() is called at line {line}")
            return
        if owner in self.names.generators:
            return
        if function.attr in _CHANGES:
            root = root_name(function.value)
            if not root:
                self.refuse(f"a value is changed at line {line}")
            self.values.change(root, function)
        elif function.attr not in _METHODS:
            self.refuse(f"the method {function.attr!r} is called at line {line}")

    def see_argument(self, argument: ast.expr) -> None:
        """Refuse an argument of a call to the program that is no plain data, and record which values it holds."""
        if isinstance(argument, ast.Starred):
            argument = argument.value
        if isinstance(argument, ast.Lambda) or (isinstance(argument, ast.Call) and self.is_lazy(argument)):
            self.refuse(f"something else than plain data is passed at line {argument.lineno}")
        self.values.give(argument)

    def is_lazy(self, call: ast.Call) -> bool:
        return isinstance(call.func, ast.Name) and call.func.id in _LAZY_BUILTINS

    def see_attribute(self, node: ast.Attribute) -> None:
        parent = self.names.parents[id(node)]
        if isinstance(parent, ast.Call) and parent.func is node:
            return
        owner = node.value.id if isinstance(node.value, ast.Name) else ""
        if owner not in self.names.modules and node.attr not in ("real", "imag"):
            self.refuse(f"the attribute {node.attr!r} is read or set at line {node.lineno}")

    def see_name(self, node: ast.Name) -> None:
        parent = self.names.parents[id(node)]
        if not isinstance(node.ctx, ast.Load) or (isinstance(parent, ast.Call) and parent.func is node):
            return
        if isinstance(parent, ast.Attribute) and (node.id in self.names.aliases or node.id in self.names.modules):
            return
        if node.id in self.names.subjects | set(self.names.functions) and not self.names.is_function_argument(
            node, parent
        ):
            self.refuse(f"{node.id!r} is used without being called at line {node.lineno}")
        if node.id in self.names.aliases or node.id in self.names.modules:
            self.refuse(f"the module {node.id!r} is a value at line {node.lineno}")
        is_builtin = hasattr(builtins, node.id) and node.id not in self.names.assigned
        if is_builtin and isinstance(parent, _HOLDERS) and not self.takes_types(parent):
            self.refuse(f"{node.id!r} is used as a value at line {node.lineno}")
        for function, parameters in self.names.called_parameters.items():
            is_parameter = node.id in parameters and self.names.is_within(node, self.names.functions[function])
            if is_parameter and not self.names.is_function_argument(node, parent):
                self.refuse(f"{node.id!r} is used without being called at line {node.lineno}")

    def takes_types(self, parent: ast.AST) -> bool:
        """Return whether a class or function may be an argument here: ``isinstance(x, int)``, ``map(int, xs)``."""
        name = parent.func.id if isinstance(parent, ast.Call) and isinstance(parent.func, ast.Name) else ""
        return name in ("isinstance", "map", "filter")

    def is_consumed(self, node: ast.expr) -> bool:
        """Return whether an iterator is consumed where it is created."""
        parent = self.names.parents[id(node)]
        if isinstance(parent, ast.For | ast.comprehension) and parent.iter is node:
            return True
        if isinstance(parent, ast.Starred):
            return isinstance(self.names.parents[id(parent)], ast.List | ast.Tuple | ast.Set)
        if not isinstance(parent, ast.Call) or node not in parent.args:
            return False
        if isinstance(parent.func, ast.Attribute):
            return parent.func.attr == "join"
        name = parent.func.id if isinstance(parent.func, ast.Name) else ""
        if name in _LAZY_BUILTINS:
            return self.is_consumed(parent)
        return name in _CONSUMERS and name not in self.names.subjects

    def is_mapped(self, node: ast.Lambda) -> bool:
        parent = self.names.parents[id(node)]
        name = parent.func.id if isinstance(parent, ast.Call) and isinstance(parent.func, ast.Name) else ""
        return name in ("map", "filter")
