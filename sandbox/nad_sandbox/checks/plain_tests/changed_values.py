"""Find values that tests change after the program returned or received them.

In a separate process the program has a copy of such a value, and would not see the change.
"""

from __future__ import annotations

import ast

from nad_sandbox.checks.plain_tests.names import Names, root_name

__all__ = ["ChangedValues"]


class ChangedValues:
    """Records which names hold values that the program returned or received, and where their values are changed.

    Args:
        names: The names in the tests.
    """

    def __init__(self, names: Names) -> None:
        self._names = names
        self._crossings: dict[str, list[ast.AST]] = {}
        self._changes: dict[str, list[ast.AST]] = {}

    def follow(self, node: ast.AST) -> None:
        """Record what a statement or loop assigns and changes."""
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                self._assign(target, node.value)
        elif isinstance(node, ast.For | ast.comprehension):
            self._assign(node.target, node.iter)
        elif isinstance(node, ast.AugAssign):
            root = root_name(node.target)
            if root and not (isinstance(node.target, ast.Name) and self._starts_as_constant(root)):
                self.change(root, node)

    def give(self, argument: ast.expr) -> None:
        """Record the names in an argument of a call to the program."""
        if isinstance(argument, ast.Attribute):
            return
        if root_name(argument) or isinstance(argument, ast.List | ast.Tuple | ast.Dict | ast.Set):
            self._cross(argument)

    def change(self, name: str, node: ast.AST) -> None:
        """Record that a node changes the value of a name."""
        self._changes.setdefault(name, []).append(node)

    def find(self) -> tuple[str, int] | None:
        """Return the name and the line of a value that is changed after it crossed; None if there is none."""
        for name, changes in self._changes.items():
            for change in changes:
                if not all(self._precedes(change, crossing, name) for crossing in self._crossings.get(name, [])):
                    return name, _line(change)
        return None

    def _assign(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Subscript | ast.Attribute):
            root = root_name(target)
            if root:
                self.change(root, target)
            return
        if any(isinstance(inner, ast.Call) and self._names.calls_program(inner) for inner in ast.walk(value)):
            self._cross(target)

    def _cross(self, node: ast.AST) -> None:
        for inner in ast.walk(node):
            if isinstance(inner, ast.Name):
                self._crossings.setdefault(inner.id, []).append(inner)

    def _starts_as_constant(self, name: str) -> bool:
        """Return whether only literal numbers and text are assigned to a name."""
        assignments = self._names.assignments(name)
        return bool(assignments) and all(isinstance(node.value, ast.Constant) for node in assignments)

    def _precedes(self, change: ast.AST, crossing: ast.AST, name: str) -> bool:
        """Return whether a value is changed before it crosses, and a loop that repeats the change makes a new value."""
        if _line(change) >= _line(crossing):
            return False
        new_values = ast.List | ast.Dict | ast.Set | ast.ListComp | ast.Constant
        fresh = [node for node in self._names.assignments(name) if isinstance(node.value, new_values)]
        is_within = self._names.is_within
        current = self._names.parents.get(id(crossing))
        while current is not None:
            is_loop = isinstance(current, ast.For | ast.While) and is_within(change, current)
            if is_loop and not any(is_within(node, current) and _line(node) < _line(change) for node in fresh):
                return False
            current = self._names.parents.get(id(current))
        return True


def _line(node: ast.AST) -> int:
    return getattr(node, "lineno", 0)
