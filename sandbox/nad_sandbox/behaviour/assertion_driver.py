"""Appended to a program inside the sandbox: calls a function and compares what it returns with what is expected.

It is never imported outside of a sandbox, and what it returns is data of the program's own process.
"""


def _nad_check(function: str, arguments: tuple, expected: object) -> bool:  # type: ignore[type-arg]
    """Return whether a call gives a value; lists and tuples compare alike, and floats to six digits."""
    import math

    def same(a: object, b: object) -> bool:
        if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
            return len(a) == len(b) and all(map(same, a, b))
        if isinstance(a, float) or isinstance(b, float):
            numbers = isinstance(a, (int, float)) and isinstance(b, (int, float))
            return numbers and (a == b or math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9))  # type: ignore[arg-type]
        return isinstance(a, bool) == isinstance(b, bool) and bool(a == b)

    return same(eval(function)(*arguments), expected)
