"""Plan how tests are judged before any program is seen: how they run, what they import, and which names they use."""

from __future__ import annotations

import ast
import builtins
import symtable
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from nad_sandbox.checks.guarded_parse import PARSE_ERRORS, parse_tests
from nad_sandbox.checks.plain_tests import find_obstacle

__all__ = ["PROGRAM_MODULES", "TestPlan", "TestsError", "plan_tests"]

PROGRAM_MODULES = ("solution", "candidate", "main")
"""Names of the modules under which tests can import the program."""

_BUILTINS = frozenset(dir(builtins))
_REFLECTION = {"globals", "locals", "vars", "dir", "eval", "exec"}
_FIXTURES = {
    "cache", "capfd", "capfdbinary", "caplog", "capsys", "capsysbinary", "capteesys", "doctest_namespace",
    "event_loop", "event_loop_policy", "monkeypatch", "pytestconfig", "record_property", "record_testsuite_property",
    "record_xml_attribute", "recwarn", "request", "self", "cls", "subtests", "tmp_path", "tmp_path_factory", "tmpdir",
    "tmpdir_factory", "unused_tcp_port", "unused_udp_port",
}  # fmt: skip
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
_Function = ast.FunctionDef | ast.AsyncFunctionDef


class TestsError(ValueError):
    """Raised when the tests cannot judge any program; the message says why."""

    __test__ = False


@dataclass(frozen=True)
class TestPlan:
    """How tests are run and what they need.

    Attributes:
        kind: "script" runs from top to bottom, as Python does; "pytest" collects tests; "doctest" is a session.
        subjects: Names that the tests use and do not define, which the program must define.
        modules: Modules that the tests import; without one of them the tests cannot run.
        functions: Names of the test functions without parameters, in order.
        asserts: Whether the tests have assert statements.
        asynchronous: Whether tests or fixtures are coroutines.
        reflective: Whether the tests look names up as text.
        patches: Whether the tests may replace parts of modules.
        not_plain: Why the tests cannot be judged in a separate process; empty when they can.
    """

    __test__ = False

    kind: Literal["script", "pytest", "doctest"]
    subjects: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()
    asserts: bool = False
    asynchronous: bool = False
    reflective: bool = False
    patches: bool = False
    not_plain: str = ""


def plan_tests(tests: str, entry_point: str | None = None) -> TestPlan:
    """Find out how tests are run.

    Args:
        tests: Python source, or an interactive session with ``>>>``.
        entry_point: Name that the program defines, even if a built-in function has the same name.

    Raises:
        TestsError: The tests do not compile, or check nothing, whatever the program.
    """
    try:
        compile(tests, "tests.py", "exec", dont_inherit=True)
        tree = parse_tests(tests)
        table = symtable.symtable(tests, "tests.py", "exec")
    except PARSE_ERRORS as error:
        if any(line.lstrip().startswith(">>> ") for line in tests.splitlines()):
            return TestPlan("doctest", subjects=_words(tests), not_plain="an interactive session is compared as text")
        raise TestsError(f"the tests do not compile: {error}") from error
    functions = _test_functions(tree)
    collected = _is_collected(tree, functions)
    if not collected and not _checks_something(tree):
        if ">>> " in tests:
            return TestPlan("doctest", subjects=_words(tests), not_plain="an interactive session is compared as text")
        raise TestsError("the tests check nothing: they have no assertion, no test function and no unittest class")
    if collected:
        _refuse_what_never_runs(tree, functions)
    subjects = _subjects(tree, table, entry_point)
    nodes = list(ast.walk(tree))
    return TestPlan(
        kind="pytest" if collected else "script",
        subjects=subjects,
        modules=tuple(_imported(tree)),
        functions=tuple(f.name for f in functions) if collected else (),
        asserts=any(isinstance(node, ast.Assert) for node in nodes),
        asynchronous=any(isinstance(node, ast.AsyncFunctionDef) for node in nodes) and collected,
        reflective=any(isinstance(node, ast.Name) and node.id in _REFLECTION for node in nodes),
        patches=any(word in tests for word in ("patch", "builtins", "setattr", "sys.modules"))
        or _assigns_attribute(nodes),
        not_plain=find_obstacle(tree, subjects, PROGRAM_MODULES),
    )


def _words(tests: str) -> tuple[str, ...]:
    """Return every name in a session; which of them are the program's is known once it is loaded."""
    words = "".join(character if character.isidentifier() or character.isdigit() else " " for character in tests)
    return tuple(dict.fromkeys(word for word in words.split() if word.isidentifier() and word not in _BUILTINS))


def _assigns_attribute(nodes: list[ast.AST]) -> bool:
    return any(isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load) for node in nodes)


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements of the top level, including those inside its conditions."""
    for node in body:
        yield node
        if not isinstance(node, _SCOPES):
            for name in ("body", "orelse", "finalbody"):
                yield from _statements(getattr(node, name, []))
            for handler in getattr(node, "handlers", []):
                yield from _statements(handler.body)


def _test_functions(tree: ast.Module) -> list[_Function]:
    return [node for node in _statements(tree.body) if isinstance(node, _Function) and node.name.startswith("test")]


def _is_collected(tree: ast.Module, functions: list[_Function]) -> bool:
    """Return whether pytest would collect tests that the source does not call itself."""
    for node in _statements(tree.body):
        if isinstance(node, ast.ClassDef):
            bases = [ast.unparse(base).rpartition(".")[2] for base in node.bases]
            if any(base.endswith("TestCase") for base in bases) or _is_test_class(node):
                return True
    called = {
        node.value.func.id
        for node in tree.body
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Name)
    }
    return any(function.name not in called or function.decorator_list for function in functions)


def _is_test_class(node: ast.ClassDef) -> bool:
    inner = any(isinstance(item, _Function) and item.name.startswith("test") for item in node.body)
    nested = any(isinstance(item, ast.ClassDef) and _is_test_class(item) for item in node.body)
    return node.name.startswith("Test") and (inner or nested or bool(node.bases))


def _checks_something(tree: ast.Module) -> bool:
    for node in ast.walk(tree):
        if isinstance(node, (ast.Assert, ast.Raise)):
            return True
        if isinstance(node, ast.Attribute) and node.attr.lower().startswith(("assert", "testmod", "raises", "exit")):
            return True
    return False


def _refuse_what_never_runs(tree: ast.Module, functions: list[_Function]) -> None:
    """Reject tests that skip themselves, or ask for fixtures that nothing defines.

    Raises:
        TestsError: The tests never run.
    """
    classes = any(isinstance(node, ast.ClassDef) for node in tree.body)
    skipped = [f for f in functions if any(_is_skip(decorator) for decorator in f.decorator_list)]
    marked = any(
        isinstance(node, ast.Assign)
        and any(isinstance(target, ast.Name) and target.id == "pytestmark" for target in node.targets)
        and _is_skip(node.value)
        for node in tree.body
    )
    at_once = any(
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and _is_module_skip(node.value)
        for node in tree.body
    )
    if at_once or marked or (not classes and functions and len(skipped) == len(functions)):
        raise TestsError("the tests check nothing: they leave themselves out, whatever the program")
    defined = {node.name for node in ast.walk(tree) if isinstance(node, _Function)}
    texts = " ".join(
        node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
    for function in functions:
        if any("mark" not in ast.unparse(decorator) for decorator in function.decorator_list):
            continue  # a decorator such as mock.patch may pass arguments
        arguments = function.args.posonlyargs + function.args.args + function.args.kwonlyargs
        required = arguments[: len(arguments) - len(function.args.defaults)]
        for argument in required:
            if argument.arg not in _FIXTURES | defined and argument.arg not in texts:
                raise TestsError(
                    f"the test {function.name!r} asks for the fixture {argument.arg!r}, which is not defined"
                )


def _is_skip(node: ast.expr) -> bool:
    target = node.func if isinstance(node, ast.Call) else node
    return ast.unparse(target) in ("pytest.mark.skip", "mark.skip", "unittest.skip")


def _is_module_skip(call: ast.Call) -> bool:
    return ast.unparse(call.func) in ("pytest.skip", "skip") and any(
        keyword.arg == "allow_module_level" for keyword in call.keywords
    )


def _imported(tree: ast.Module) -> Iterator[str]:
    """Yield the modules that the tests import without handling their absence."""
    guarded = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.Try)
        for statement in node.body
        for inner in ast.walk(statement)
    }
    seen = set()
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import) and id(node) not in guarded:
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and id(node) not in guarded and node.module and not node.level:
            names = [node.module]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.importorskip" and node.args:
            first = node.args[0]
            names = [first.value] if isinstance(first, ast.Constant) and isinstance(first.value, str) else []
        for name in names:
            if name not in seen and name.partition(".")[0] not in PROGRAM_MODULES:
                seen.add(name)
                yield name


def _subjects(tree: ast.Module, table: symtable.SymbolTable, entry_point: str | None) -> tuple[str, ...]:
    """Return the names that the tests use and do not define."""
    own = {s.get_name() for s in table.get_symbols() if s.is_assigned() or s.is_imported() or s.is_namespace()}
    read: dict[str, None] = {}
    tables = [table]
    while tables:
        current = tables.pop()
        tables += current.get_children()
        for symbol in current.get_symbols():
            is_free = symbol.is_referenced() and (current is table or symbol.is_global())
            if is_free and symbol.get_name() not in own:
                read[symbol.get_name()] = None
    imported = {
        alias.name: None
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module in PROGRAM_MODULES
        for alias in node.names
    }
    modules = _aliases_of_the_program(tree)
    attributes = {
        node.attr: None
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules
    }
    subjects = {name: None for name in read if name not in _BUILTINS and not name.startswith("__")}
    if not subjects and not imported and not attributes:
        # the tests may be about a function with the name of a built-in one
        subjects = dict.fromkeys(_tested_builtins(tree))
    if entry_point is not None:
        subjects[entry_point] = None
    return tuple({**subjects, **imported, **attributes})


def _aliases_of_the_program(tree: ast.Module) -> set[str]:
    return {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name in PROGRAM_MODULES
    }


def _tested_builtins(tree: ast.Module) -> Iterator[str]:
    """Yield the built-in names whose calls an assertion compares."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert):
            tested = node.test.left if isinstance(node.test, ast.Compare) else node.test
            if isinstance(tested, ast.Call) and isinstance(tested.func, ast.Name) and tested.func.id in _BUILTINS:
                yield tested.func.id
