"""Running the user's tests: what is at their top level here; functions and classes where they have some."""

from __future__ import annotations

import ast
import sys
import types

from nad_sandbox.harness.asserting import AssertRewriter, TestsError, check_compare, check_true, made_checks


def run_tests(candidate, scope, tests, names):
    """Everything at the tests' top level, then unittest classes and pytest functions in order."""
    module = types.ModuleType("tests")
    module.__dict__.update(scope)
    module.__dict__.update(__nad_check_compare__=check_compare, __nad_check_true__=check_true)
    for name in names:
        alias = types.ModuleType(name)
        alias.__dict__.update(scope, __nad_alias__=True)
        sys.modules[name] = alias
    sys.modules["tests"] = module
    # there only where the tests have more than assertions
    collector = globals().get("Collected")
    collected = collector(candidate, module, tests) if collector else None
    asked = candidate.asked
    tree = ast.fix_missing_locations(AssertRewriter().visit(ast.parse(tests, "tests.py")))
    program = compile(tree, "tests.py", "exec")
    found = 0
    if collected is None:
        exec(program, module.__dict__)
    else:
        found = collected.run(program)
    if not found and not made_checks() and candidate.asked == asked:
        raise TestsError(
            "the tests check nothing: they have no assertion that is reached, no test function and no unittest class"
        )
