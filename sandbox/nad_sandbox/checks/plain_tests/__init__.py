"""Decide whether tests can be judged in a separate process: they must call the program with plain data alone.

The rules look only at the tests' source, so that the answer is the same for every program. They are strict: tests
that they refuse may still be plain, and are then judged in the program's own process. The rules refuse names of the
program that are not called, methods and attributes other than those of plain data, decorators, classes, `with`, `is`
between values, lazy iterators that are not consumed at once, seeds, and changes to a value that the program returned
or received.
"""

from nad_sandbox.checks.plain_tests.checker import find_obstacle

__all__ = ["find_obstacle"]
