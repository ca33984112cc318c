"""Evaluate the examples of a prompt: each is a call and what it returns, prints or raises."""

from __future__ import annotations

import io
import math
import sys

from nad_sandbox.harness.program import short_repr

SENTINEL = object()


class ExampleError(Exception):
    """Raised when an example does not hold; `detail` is for the report."""

    def __init__(self, call, expected="", got="", error=""):
        super().__init__(call)
        self.detail = {"assertion": call, "expected": expected, "got": got, "error": error}


def check_examples(examples, program, scope, honest=lambda value: value):
    """Evaluate each example; see `nad_sandbox.checks.examples.Example`.

    Args:
        examples: Examples as dictionaries; `literal` tells whether the expected text is the source of a literal.
        program: The program's namespace.
        scope: Further names that an example may use.
        honest: Function that returns a value, or raises when the value compares equal to everything.

    Raises:
        ExampleError: An example does not hold.
    """
    for example in examples:
        call, expected = example["call"], example["expected"]
        comparison, options = example.get("comparison", "output"), example.get("options", 0)
        missing = [name for name in example["names"] if name not in program]
        if missing:
            raise ExampleError(call, expected, "", "%s is not defined by the program" % ", ".join(missing))
        names = dict(scope, **{name: program[name] for name in example["names"]})
        stdout, sys.stdout = sys.stdout, io.StringIO()
        try:
            got = eval(compile(call, "<example>", "eval"), names)
        except Exception as error:
            if comparison != "error":
                raise
            text = ("%s: %s" % (type(error).__name__, error)).strip().rstrip(":")
            if raised_as(error, text, expected, options):
                continue
            raise ExampleError(call, expected, text) from None
        finally:
            out, sys.stdout = sys.stdout, stdout
        printed = out.getvalue() if isinstance(out, io.StringIO) else ""
        if comparison == "error":
            raise ExampleError(call, expected, "no exception, but " + short_repr(got))
        compare_example(example, honest(got), printed)


def compare_example(example, got, printed):
    """Compare the result of an example's call with the expected one.

    Raises:
        ExampleError: They differ.
    """
    call, expected = example["call"], example["expected"]
    comparison, options = example.get("comparison", "output"), example.get("options", 0)
    value = eval(expected, {"__builtins__": {}, "set": set}) if example["literal"] else SENTINEL
    if comparison == "approximate":
        good = approximately(got, expected)
    elif comparison == "output":
        good = shows(got, printed, expected, value, options)
    else:
        good = similar(got, value)
    if good:
        return
    text = printed.rstrip("\n") if printed and got is None else short_repr(got)
    wanted = expected if value is SENTINEL else short_repr(value)
    wanted = "about " + expected if comparison == "approximate" else wanted
    if text == wanted:
        # both have the same text and are not equal: the type differs, or one is printed and the other returned
        text += ", printed" if printed and got is None else ", of type %s" % type(got).__name__
    raise ExampleError(call, wanted, text)


def literal(text):
    """Return the value of a literal; SENTINEL for other text."""
    import ast

    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return SENTINEL


def similar(a, b):
    """Return whether two values are equal as examples mean it: floats to 6 digits, a list like a tuple."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b or (type(a) is type(b) and a == b)
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        return a == b or math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9) or (a != a and b != b)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(similar, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(similar(a[key], b[key]) for key in a)
    return a == b


def shows(got, printed, expected, value, options):
    """Return whether an interactive session would show the expected text, or the value is the expected one."""
    shown = printed + ("" if got is None else repr(got) + "\n")
    if shown.strip() == expected.strip() or (options and checked(expected, shown, options)):
        return True
    if value is SENTINEL:
        # accept a string that is shown without its quotes, and what doctest's options allow
        unquoted = isinstance(got, str) and not printed and got.strip() == expected.strip()
        return unquoted or checked(expected, shown, options)
    if not printed:
        return similar(got, value)
    if got is not None:
        return False
    if isinstance(value, str) and printed.strip() == value.strip():
        return True
    shown_value = literal(printed.strip())
    return checked(expected, shown, options) if shown_value is SENTINEL else similar(shown_value, value)


def checked(expected, shown, options):
    """Return whether doctest accepts an output."""
    import doctest

    return doctest.OutputChecker().check_output(expected.rstrip("\n") + "\n", shown, options)


def raised_as(error, text, expected, options):
    """Return whether an exception is the expected one.

    Its class or a base class must have the expected name; an expected message is compared as doctest compares it.
    """
    kind, colon, message = expected.partition(":")
    kind = kind.rpartition(".")[2]
    if not colon:
        return kind in [base.__name__ for base in type(error).__mro__]
    return type(error).__name__ == kind and checked(message.strip(), text.partition(":")[2].strip() + "\n", options)


def approximately(got, expected):
    """Return whether a number shows the expected digits when it is rounded or cut off."""
    from decimal import Decimal

    if isinstance(got, bool) or not isinstance(got, (int, float)):
        return False
    digit, value = 10.0 ** Decimal(expected).as_tuple().exponent, float(expected)
    more = (got - value) * (-1 if value < 0 or expected.startswith("-") else 1)
    return -0.5 * digit - 1e-12 <= more < digit - 1e-12
