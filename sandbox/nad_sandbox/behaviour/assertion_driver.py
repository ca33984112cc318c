"""Source that is appended to a program in the sandbox: it calls a function and checks the result.

It is never imported outside a sandbox, and its result comes from the program's own process, so it cannot be trusted.
"""


def _nad_check(function: str, arguments: tuple, expected: object) -> bool:  # type: ignore[type-arg]
    """Return whether a call gives the expected value; a list equals a tuple, and floats are compared to six digits."""
    import math

    def same(a: object, b: object) -> bool:
        if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
            return len(a) == len(b) and all(map(same, a, b))
        if isinstance(a, float) or isinstance(b, float):
            numbers = isinstance(a, (int, float)) and isinstance(b, (int, float))
            return numbers and (a == b or math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9))  # type: ignore[arg-type]
        return isinstance(a, bool) == isinstance(b, bool) and bool(a == b)

    return same(eval(function)(*arguments), expected)
