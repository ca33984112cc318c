"""Decide whether tests can be judged in a separate process: they must call the program with plain data alone.

The rules look only at the tests' source, so that the answer is the same for every program. They are strict: tests
that they refuse may still be plain, and are then judged in the program's own process. The rules refuse names of the
program that are not called, methods and attributes other than those of plain data, decorators, classes, `with`, `is`
between values, lazy iterators that are not consumed at once, seeds, and changes to a value that the program returned
or received.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Callable, Collection
from typing import Any

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
        self.subjects = set(subjects)
        self.program_modules = program_modules
        self.aliases: set[str] = set()  # local names of the program's modules
        self.modules: dict[str, str] = {}  # local name -> name, for other modules
        self.imported: set[str] = set()  # functions and constants imported from those modules
        self.generators: set[str] = set()  # names of `random.Random` objects
        self.functions: dict[str, ast.FunctionDef] = {}
        self.called_parameters: dict[str, set[str]] = {}
        # nodes at which a name holds a value that the program returned or received, and nodes that change its value
        self.crossings: dict[str, list[ast.AST]] = {}
        self.changes: dict[str, list[ast.AST]] = {}
        self.assigned: set[str] = set()
        self.parents: dict[int, ast.AST] = {}

    def check(self) -> None:
        for node in ast.walk(self.tree):
            for child in ast.iter_child_nodes(node):
                self.parents[id(child)] = node
        for node in ast.walk(self.tree):
            self.learn(node)
        for node in ast.walk(self.tree):
            self.see(node)
        for name, changes in self.changes.items():
            for change in changes:
                if not all(self.precedes(change, crossing, name) for crossing in self.crossings.get(name, [])):
                    self.refuse(f"{name!r}, which the program gave or was given, is changed at line {_line(change)}")

    def precedes(self, change: ast.AST, crossing: ast.AST, name: str) -> bool:
        """Return whether a value is changed before it crosses, and a loop that repeats the change makes a new value."""
        if _line(change) >= _line(crossing):
            return False
        fresh = [
            node
            for node in ast.walk(self.tree)
            if isinstance(node, ast.Assign)
            and any(isinstance(target, ast.Name) and target.id == name for target in node.targets)
            and isinstance(node.value, ast.List | ast.Dict | ast.Set | ast.ListComp | ast.Constant)
        ]
        current = self.parents.get(id(crossing))
        while current is not None:
            is_loop = isinstance(current, ast.For | ast.While) and self.is_within(change, current)
            if is_loop and not any(self.is_within(node, current) and _line(node) < _line(change) for node in fresh):
                return False
            current = self.parents.get(id(current))
        return True

    def refuse(self, what: str) -> None:
        raise _ObstacleError(what)

    def learn(self, node: ast.AST) -> None:
        """Record what the names in a node stand for."""
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name in self.program_modules:
                    self.aliases.add(alias.asname or alias.name)
                else:
                    self.modules[alias.asname or alias.name] = alias.name
        elif isinstance(node, ast.ImportFrom):
            names = {alias.asname or alias.name for alias in node.names}
            (self.subjects if node.module in self.program_modules else self.imported).update(names)
        elif isinstance(node, ast.FunctionDef):
            self.functions[node.name] = node
            called = {
                inner.func.id
                for inner in ast.walk(node)
                if isinstance(inner, ast.Call) and isinstance(inner.func, ast.Name)
            }
            self.called_parameters[node.name] = {arg.arg for arg in node.args.args if arg.arg in called}
        elif isinstance(node, ast.Assign) and self.makes_generator(node.value):
            self.generators.update(target.id for target in node.targets if isinstance(target, ast.Name))
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            self.assigned.add(node.id)
        elif isinstance(node, ast.arg):
            self.assigned.add(node.arg)

    def makes_generator(self, node: ast.expr) -> bool:
        return isinstance(node, ast.Call) and ast.unparse(node.func) in ("random.Random", "Random")

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
        self.follow(node)

    def see_comparison(self, node: ast.Compare) -> None:
        for operator, operand in zip(node.ops, node.comparators, strict=True):
            singleton = isinstance(operand, ast.Constant) and operand.value in (None, True, False)
            is_type = isinstance(operand, ast.Name) and operand.id in _TYPES
            if isinstance(operator, ast.Is | ast.IsNot) and not singleton and not is_type:
                self.refuse(f"identity is compared at line {node.lineno}")

    def see_function_or_generator(self, node: ast.GeneratorExp | ast.Lambda) -> None:
        if isinstance(node, ast.GeneratorExp) and not self.is_consumed(node):
            self.refuse(f"a generator is not used up at once at line {node.lineno}")
        is_key = isinstance(self.parents[id(node)], ast.keyword)
        if isinstance(node, ast.Lambda) and not is_key and not self.is_mapped(node):
            self.refuse(f"there is a function as a value at line {node.lineno}")

    def see_definition(self, node: ast.FunctionDef) -> None:
        if node.decorator_list or node.args.vararg or node.args.kwarg:
            self.refuse(f"the function {node.name!r} has decorators or variable parameters")
        if node.name.startswith("test") and node.args.args:
            self.refuse(f"the test {node.name!r} has parameters")
        if node.name.lower().startswith(("setup", "teardown", "pytest_")):
            self.refuse(f"pytest calls {node.name!r}")

    def follow(self, node: ast.AST) -> None:
        """Record which names hold values that crossed the pipe, and which names' values are changed."""
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                self.note_target(target, node.value)
        elif isinstance(node, ast.For | ast.comprehension):
            self.note_target(node.target, node.iter)
        elif isinstance(node, ast.AugAssign):
            root = _root(node.target)
            if root and not (isinstance(node.target, ast.Name) and self.starts_as_constant(root)):
                self.changes.setdefault(root, []).append(node)

    def note_target(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Subscript | ast.Attribute):
            root = _root(target)
            if root:
                self.changes.setdefault(root, []).append(target)
            return
        if any(isinstance(inner, ast.Call) and self.calls_program(inner) for inner in ast.walk(value)):
            self.note_crossing(target)

    def starts_as_constant(self, name: str) -> bool:
        """Return whether only literal numbers and text are assigned to a name."""
        values = [
            node.value
            for node in ast.walk(self.tree)
            if isinstance(node, ast.Assign)
            and any(isinstance(target, ast.Name) and target.id == name for target in node.targets)
        ]
        return bool(values) and all(isinstance(value, ast.Constant) for value in values)

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
        if self.calls_program(call):
            for argument in [*call.args, *[keyword.value for keyword in call.keywords]]:
                self.note_given(argument)
        elif isinstance(function, ast.Name):
            name = function.id
            if name in self.functions:
                return
            if name in _LAZY_BUILTINS:
                if not self.is_consumed(call):
                    self.refuse(f"{name}() is not used up at once at line {line}")
            elif name not in _DATA_BUILTINS | _EXCEPTIONS and name not in self.imported:
                self.refuse(f"{name}() is called at line {line}")
        elif isinstance(function, ast.Attribute):
            self.see_method(function, line)
        else:
            self.refuse(f"what is called at line {line} is an expression")

    def see_method(self, function: ast.Attribute, line: int) -> None:
        owner = function.value.id if isinstance(function.value, ast.Name) else ""
        if owner in self.modules:
            if self.modules[owner] == "random" and function.attr not in _RANDOM:
                self.refuse(f"random.{function.attr}() is called at line {line}")
            return
        if owner in self.generators:
            return
        if function.attr in _CHANGES:
            root = _root(function.value)
            if not root:
                self.refuse(f"a value is changed at line {line}")
            self.changes.setdefault(root, []).append(function)
        elif function.attr not in _METHODS:
            self.refuse(f"the method {function.attr!r} is called at line {line}")

    def note_crossing(self, node: ast.AST) -> None:
        for inner in ast.walk(node):
            if isinstance(inner, ast.Name):
                self.crossings.setdefault(inner.id, []).append(inner)

    def note_given(self, argument: ast.expr) -> None:
        """Record the names in an argument of a call to the program."""
        if isinstance(argument, ast.Starred):
            argument = argument.value
        if isinstance(argument, ast.Lambda) or (isinstance(argument, ast.Call) and self.is_lazy(argument)):
            self.refuse(f"something else than plain data is passed at line {argument.lineno}")
        if isinstance(argument, ast.Attribute):
            return
        if _root(argument) or isinstance(argument, ast.List | ast.Tuple | ast.Dict | ast.Set):
            self.note_crossing(argument)

    def is_lazy(self, call: ast.Call) -> bool:
        return isinstance(call.func, ast.Name) and call.func.id in _LAZY_BUILTINS

    def see_attribute(self, node: ast.Attribute) -> None:
        parent = self.parents[id(node)]
        if isinstance(parent, ast.Call) and parent.func is node:
            return
        owner = node.value.id if isinstance(node.value, ast.Name) else ""
        if owner not in self.modules and node.attr not in ("real", "imag"):
            self.refuse(f"the attribute {node.attr!r} is read or set at line {node.lineno}")

    def see_name(self, node: ast.Name) -> None:
        parent = self.parents[id(node)]
        if not isinstance(node.ctx, ast.Load) or (isinstance(parent, ast.Call) and parent.func is node):
            return
        if isinstance(parent, ast.Attribute) and (node.id in self.aliases or node.id in self.modules):
            return
        if node.id in self.subjects | set(self.functions) and not self.is_function_argument(node, parent):
            self.refuse(f"{node.id!r} is used without being called at line {node.lineno}")
        if node.id in self.aliases or node.id in self.modules:
            self.refuse(f"the module {node.id!r} is a value at line {node.lineno}")
        is_builtin = hasattr(builtins, node.id) and node.id not in self.assigned
        if is_builtin and isinstance(parent, _HOLDERS) and not self.takes_types(parent):
            self.refuse(f"{node.id!r} is used as a value at line {node.lineno}")
        for function, parameters in self.called_parameters.items():
            is_parameter = node.id in parameters and self.is_within(node, self.functions[function])
            if is_parameter and not self.is_function_argument(node, parent):
                self.refuse(f"{node.id!r} is used without being called at line {node.lineno}")

    def takes_types(self, parent: ast.AST) -> bool:
        """Return whether a class or function may be an argument here: ``isinstance(x, int)``, ``map(int, xs)``."""
        name = parent.func.id if isinstance(parent, ast.Call) and isinstance(parent.func, ast.Name) else ""
        return name in ("isinstance", "map", "filter")

    def is_function_argument(self, node: ast.Name, parent: ast.AST) -> bool:
        """Return whether a function of the program is passed to a helper of the tests that only calls it."""
        if not (isinstance(parent, ast.Call) and isinstance(parent.func, ast.Name)):
            return False
        helper = self.functions.get(parent.func.id)
        if helper is None or node not in parent.args:
            return False
        place = parent.args.index(node)
        return place < len(helper.args.args) and helper.args.args[place].arg in self.called_parameters[helper.name]

    def is_within(self, node: ast.AST, ancestor: ast.AST) -> bool:
        current: ast.AST | None = node
        while current is not None and current is not ancestor:
            current = self.parents.get(id(current))
        return current is ancestor

    def is_consumed(self, node: ast.expr) -> bool:
        """Return whether an iterator is consumed where it is created."""
        parent = self.parents[id(node)]
        if isinstance(parent, ast.For | ast.comprehension) and parent.iter is node:
            return True
        if isinstance(parent, ast.Starred):
            return isinstance(self.parents[id(parent)], ast.List | ast.Tuple | ast.Set)
        if not isinstance(parent, ast.Call) or node not in parent.args:
            return False
        if isinstance(parent.func, ast.Attribute):
            return parent.func.attr == "join"
        name = parent.func.id if isinstance(parent.func, ast.Name) else ""
        if name in _LAZY_BUILTINS:
            return self.is_consumed(parent)
        return name in _CONSUMERS and name not in self.subjects

    def is_mapped(self, node: ast.Lambda) -> bool:
        parent = self.parents[id(node)]
        name = parent.func.id if isinstance(parent, ast.Call) and isinstance(parent.func, ast.Name) else ""
        return name in ("map", "filter")

    def calls_program(self, call: ast.Call) -> bool:
        function = call.func
        if isinstance(function, ast.Attribute):
            return isinstance(function.value, ast.Name) and function.value.id in self.aliases
        if not isinstance(function, ast.Name):
            return False
        is_parameter = any(
            function.id in parameters and self.is_within(call, self.functions[name])
            for name, parameters in self.called_parameters.items()
        )
        return function.id in self.subjects or is_parameter


def _line(node: ast.AST) -> int:
    return getattr(node, "lineno", 0)


def _root(node: ast.expr) -> str:
    """Return the name at the beginning of ``name[0].attribute``; empty for anything else."""
    while isinstance(node, ast.Subscript | ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""
