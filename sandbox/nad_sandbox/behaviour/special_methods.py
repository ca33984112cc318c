"""What the special methods of a class let its objects do: built-in functions, operators, item access, `with`."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterable

from nad_sandbox.behaviour.signature import Parameter, Signature

__all__ = [
    "BUILT_IN_BASES",
    "CALLED",
    "VIEWS",
    "context_kinds",
    "exception_class",
    "operators_of",
]

VIEWS = {
    "__str__": "str",
    "__repr__": "repr",
    "__len__": "len",
    "__iter__": "list",
    "__next__": "list",
    "__bool__": "bool",
    "__abs__": "abs",
    "__neg__": "-",
    "__pos__": "+",
    "__invert__": "~",
    "__int__": "int",
    "__float__": "float",
    "__index__": "int",
    "__complex__": "complex",
    "__round__": "round",
    "__bytes__": "bytes",
    "__reversed__": "reversed",
    "__aiter__": "async for",
}
"""Built-in functions and unary operators that show an object's state, by the special method that they call."""

CALLED = {
    "__getitem__": "[{}]",
    "__setitem__": "[{}] = {}",
    "__delitem__": "del [{}]",
    "__contains__": "{} in it",
    "__call__": "call with {}",
    "__format__": "format as {}",
}
"""Special methods that are called with generated arguments, and how a person would write that."""

_OPERATORS = {
    "eq": "==", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "add": "+", "sub": "-", "mul": "*", "matmul": "@",
    "truediv": "/", "floordiv": "//", "mod": "%", "pow": "**", "and": "&", "or": "|", "xor": "^", "lshift": "<<",
    "rshift": ">>",
}  # fmt: skip
"""Operators between an object of the class and another value, by the special method without its underscores."""

_KEY, _VALUE = Parameter("key", "str"), Parameter("value", "int")
_ITEM = Parameter("item", "int")
_DICT: dict[str, Signature] = {
    "__setitem__": (_KEY, _VALUE), "__getitem__": (_KEY,), "__contains__": (_KEY,), "get": (_KEY,),
}  # fmt: skip
_LIST: dict[str, Signature] = {"append": (_ITEM,), "__getitem__": (Parameter("index"),), "__contains__": (_ITEM,)}
_SET: dict[str, Signature] = {"add": (_ITEM,), "__contains__": (_ITEM,)}
BUILT_IN_BASES: dict[str, dict[str, Signature]] = {
    **dict.fromkeys(("dict", "UserDict", "OrderedDict", "defaultdict", "Counter", "MutableMapping"), _DICT),
    **dict.fromkeys(("list", "UserList", "deque", "MutableSequence"), _LIST),
    **dict.fromkeys(("set", "MutableSet"), _SET),
}
"""Methods that are called on objects of a class derived from a built-in container, by the name of that container."""


def exception_class(name: str) -> bool:
    """Return whether a name is that of a built-in exception, or ends as those of libraries often do."""
    kind = getattr(builtins, name, None)
    return (isinstance(kind, type) and issubclass(kind, BaseException)) or name.endswith("Exception")


def context_kinds(methods: Iterable[str]) -> set[str]:
    """Return the statements whose context managers a class's objects are: `with`, `async with`."""
    names = set(methods)
    kinds = {"with"} if {"__enter__", "__exit__"} <= names else set()
    return kinds | ({"async with"} if {"__aenter__", "__aexit__"} <= names else set())


def operators_of(methods: dict[str, ast.FunctionDef | ast.AsyncFunctionDef], class_name: str) -> set[str]:
    """Return the operators that a class supports, each with what stands beside the object.

    ``it + other`` takes another object of the class, ``it * 2`` and ``2 * it`` a number.
    """
    found = set()
    for name, node in methods.items():
        plain = name.strip("_")
        if plain in _OPERATORS:
            kinds = _operands(node, class_name) or {"other"}
            found |= {f"it {_OPERATORS[plain]} {'2' if kind == 'number' else kind}" for kind in kinds}
        elif plain[:1] == "r" and plain[1:] in _OPERATORS and name.endswith("__"):
            found.add(f"2 {_OPERATORS[plain[1:]]} it")
        elif plain[:1] == "i" and plain[1:] in _OPERATORS and name.endswith("__"):
            found.add(f"it {_OPERATORS[plain[1:]]}= other")
    return found


def _operands(node: ast.FunctionDef | ast.AsyncFunctionDef, class_name: str) -> set[str]:
    """Return whether a binary special method takes another object of its class, a number, or both."""
    if len(node.args.args) < 2:
        return set()
    other = node.args.args[1]
    hint = ast.unparse(other.annotation).strip("'\"") if other.annotation is not None else ""
    kinds = {"other"} if hint and class_name in hint else set()
    if any(kind in hint.replace("|", " ").replace("[", " ").replace(",", " ").split() for kind in ("int", "float")):
        kinds.add("number")
    parents = {child: parent for parent in ast.walk(node) for child in ast.iter_child_nodes(parent)}
    for name in ast.walk(node):
        if not (isinstance(name, ast.Name) and name.id == other.arg):
            continue
        parent = parents.get(name)
        if isinstance(parent, ast.Attribute | ast.Subscript | ast.Call | ast.comprehension):
            checked = ast.unparse(parent) if isinstance(parent, ast.Call) else ""
            if checked.startswith("isinstance("):
                kinds |= {"number"} if any(kind in checked for kind in ("int", "float", "Number")) else set()
                kinds |= {"other"} if class_name in checked or "self" in checked else set()
            else:
                kinds.add("other")
        elif isinstance(parent, ast.BinOp):
            kinds.add("number")
    return kinds
