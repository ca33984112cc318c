"""What the names in tests stand for, and where in the syntax tree they are."""

from __future__ import annotations

import ast

__all__ = ["Names", "root_name"]


def root_name(node: ast.expr) -> str:
    """Return the name at the beginning of ``name[0].attribute``; empty for anything else."""
    while isinstance(node, ast.Subscript | ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


class Names:
    """The names in tests.

    Args:
        tree: Syntax tree of the tests.
        subjects: Names that the tests take from the program.
        program_modules: Modules under which the tests can import the program.

    Attributes:
        parents: The parent of each node, by the node's `id`.
        subjects: Names of the program's functions and classes, imported ones included.
        aliases: Local names of the program's modules.
        modules: Other modules' own names, by their local names.
        imported: Functions and constants imported from other modules.
        generators: Names of `random.Random` objects.
        functions: The tests' own functions, by their names.
        called_parameters: Parameters that a function of the tests calls, by its name.
        assigned: Names that the tests assign to, parameters included.
    """

    def __init__(self, tree: ast.Module, subjects: frozenset[str], program_modules: frozenset[str]) -> None:
        self._tree = tree
        self._program_modules = program_modules
        self.parents: dict[int, ast.AST] = {}
        self.subjects = set(subjects)
        self.aliases: set[str] = set()
        self.modules: dict[str, str] = {}
        self.imported: set[str] = set()
        self.generators: set[str] = set()
        self.functions: dict[str, ast.FunctionDef] = {}
        self.called_parameters: dict[str, set[str]] = {}
        self.assigned: set[str] = set()
        for node in ast.walk(tree):
            for child in ast.iter_child_nodes(node):
                self.parents[id(child)] = node
            self._learn(node)

    def _learn(self, node: ast.AST) -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name in self._program_modules:
                    self.aliases.add(alias.asname or alias.name)
                else:
                    self.modules[alias.asname or alias.name] = alias.name
        elif isinstance(node, ast.ImportFrom):
            names = {alias.asname or alias.name for alias in node.names}
            (self.subjects if node.module in self._program_modules else self.imported).update(names)
        elif isinstance(node, ast.FunctionDef):
            self.functions[node.name] = node
            called = {
                inner.func.id
                for inner in ast.walk(node)
                if isinstance(inner, ast.Call) and isinstance(inner.func, ast.Name)
            }
            self.called_parameters[node.name] = {arg.arg for arg in node.args.args if arg.arg in called}
        elif isinstance(node, ast.Assign) and _makes_generator(node.value):
            self.generators.update(target.id for target in node.targets if isinstance(target, ast.Name))
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            self.assigned.add(node.id)
        elif isinstance(node, ast.arg):
            self.assigned.add(node.arg)

    def assignments(self, name: str) -> list[ast.Assign]:
        """Return the statements that assign to a name."""
        return [
            node
            for node in ast.walk(self._tree)
            if isinstance(node, ast.Assign)
            and any(isinstance(target, ast.Name) and target.id == name for target in node.targets)
        ]

    def is_within(self, node: ast.AST, ancestor: ast.AST) -> bool:
        """Return whether a node is an ancestor's descendant, or the ancestor itself."""
        current: ast.AST | None = node
        while current is not None and current is not ancestor:
            current = self.parents.get(id(current))
        return current is ancestor

    def calls_program(self, call: ast.Call) -> bool:
        """Return whether a call may run a function of the program."""
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

    def is_function_argument(self, node: ast.Name, parent: ast.AST) -> bool:
        """Return whether a function of the program is passed to a helper of the tests that only calls it."""
        if not (isinstance(parent, ast.Call) and isinstance(parent.func, ast.Name)):
            return False
        helper = self.functions.get(parent.func.id)
        if helper is None or node not in parent.args:
            return False
        place = parent.args.index(node)
        return place < len(helper.args.args) and helper.args.args[place].arg in self.called_parameters[helper.name]


def _makes_generator(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) in ("random.Random", "Random")
