"""The steps on an object whose outcomes are observed, as source for the driver and as text for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nad_sandbox.behaviour.call_arguments import Arguments
from nad_sandbox.behaviour.special_methods import CALLED

__all__ = ["ObjectSequence", "Step", "attribute", "call", "check", "context", "operator", "setter", "view"]

_UNARY = ("-", "+", "~")


@dataclass(frozen=True)
class Step:
    """One operation on an object.

    Attributes:
        code: Source of an expression, in which the object is called `it`.
        text: The step as a person would write it, without the object.
        lasting: Whether it may change the object, so that the description of later steps names it.
    """

    code: str
    text: str
    lasting: bool = False


@dataclass(frozen=True)
class ObjectSequence:
    """An object and the steps on it.

    Attributes:
        code: Source of an expression that makes the object.
        steps: The steps.
        text: The expression as a person would write it; empty if that is its source. There is none for "None".
    """

    code: str
    steps: tuple[Step, ...]
    text: str = ""

    def written(self) -> tuple[str, tuple[str, ...]]:
        """Return the driver's call, and for each step the statements that lead to it, for people."""
        steps = ", ".join(f"lambda it: {step.code}" for step in self.steps)
        done = [] if self.code == "None" else [self.text or self.code]
        shown = []
        for step in self.steps:
            shown.append("; ".join([*done, step.text]))
            if step.lasting:
                done.append(step.text)
        return f"_nad_observe_object(lambda: {self.code}, [{steps}], raised_on_purpose)", tuple(shown)


def call(name: str, given: Arguments) -> Step:
    """Return the call of a method."""
    text = f"{name}({given.text})"
    places = CALLED.get(name, "").count("{}")
    if places and not given.by_name and len(given.positional) >= places:
        shown = map(repr, given.positional) if places > 1 else [given.text]
        return Step(f"it.{text}", CALLED[name].format(*shown), lasting=True)
    if name == "__call__":
        return Step(f"it({given.text})", f"call with ({given.text})", lasting=True)
    return Step(f"it.{text}", text, lasting=True)


def attribute(name: str) -> Step:
    """Return the reading of an attribute."""
    return Step(f"it.{name}", name)


def setter(name: str, given: Arguments) -> Step:
    """Return the assignment to an attribute; the first argument is the value."""
    value = given.text.partition("=")[2] if given.by_name and not given.positional else repr(given.positional[0])
    return Step(f"setattr(it, {name!r}, {value})", f"{name} = {value}", lasting=True)


def view(name: str) -> Step:
    """Return the application of a built-in function or a unary operator."""
    if name in _UNARY:
        return Step(f"{name}it", f"{name}it")
    if name == "list":
        return Step("_nad_items(it)", "list()")
    if name == "async for":
        return Step("_nad_async_items(it)", "its items in async for")
    return Step(f"_nad_items({name}(it))" if name == "reversed" else f"{name}(it)", f"{name}()")


def operator(written: str, other: str) -> Step:
    """Return the application of an operator, with the source of another object in place of `other`."""
    shown = written.replace("other", other)
    if "=" in written and written.split()[1] not in ("==", "<=", ">="):
        # an assignment is no expression
        symbol = written.split()[1]
        name = {"+=": "iadd", "-=": "isub", "*=": "imul", "/=": "itruediv", "|=": "ior", "&=": "iand"}.get(symbol)
        return Step(f"__import__('operator').{name}(it, {other})" if name else shown, shown)
    if written.startswith("{"):
        return Step(f"len({{it, {other}}})", f"size of the set {shown}")
    return Step(shown, shown)


def check(ancestor: str) -> Step:
    """Return the question whether an object belongs to a class."""
    return Step(f"isinstance(it, {ancestor})", f"isinstance(it, {ancestor})")


def context(statement: str, attributes: Sequence[str], error: str = "") -> Step:
    """Return the use of the object in a `with` or `async with` statement, whose block raises an exception if given."""
    function = "_nad_with" if statement == "with" else "_nad_async_with"
    look = f"lambda it: [{', '.join(f'it.{name}' for name in attributes)}]"
    raised = f", {error}" if error else ""
    text = f"{statement} it: raise {error}" if error else f"{statement} it as x: {', '.join(['x', *attributes])}"
    return Step(f"{function}(it, {look}{raised})", text, lasting=True)


def state(attributes: Sequence[str], views: Sequence[str]) -> str:
    """Return the source of a function that gives an object's public state."""
    seen = [attribute(name).code for name in attributes] + [
        view(name).code for name in views if name in ("str", "list")
    ]
    return f"lambda it: [{', '.join(seen)}]"
