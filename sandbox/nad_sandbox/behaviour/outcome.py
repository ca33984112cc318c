"""The outcome of a program on one input: reading the observer's data, comparing outcomes, and showing them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

__all__ = ["Outcome", "read_outcome", "read_steps"]

_TEXT = 160
"""Largest number of characters in the description of an outcome."""

_MISTAKES = (
    "TypeError",
    "AttributeError",
    "NameError",
    "UnboundLocalError",
    "RecursionError",
    "NotImplementedError",
    "ModuleNotFoundError",
)
"""Exceptions that mistakes in programs raise."""

_ENDS = {"timeout": "ran out of time", "size": "gave more than can be compared", "exit": "ended its process"}


@dataclass(frozen=True)
class Outcome:
    """The outcome of a program on one input.

    Attributes:
        seen: Parts of the outcome as plain data: `returned`, `changed` (arguments afterwards), `printed`, `files` (that
            were written or removed), `raised` (the exception's name), `ended` (`timeout`, `size` for an outcome that is
            too large, or `exit` when the process ended).
        stable: Whether a second run had the same outcome; a run that a limit ended says nothing about that.
        stable_items: If a returned list differed in the second run, which of its items were the same.
        is_step: Whether it is the outcome of a step on an object, of which an exception may be the purpose.
        deliberate: Whether a `raise` statement of the program raised the exception.
    """

    seen: dict[str, Any]
    stable: bool = True
    stable_items: tuple[bool, ...] = ()
    is_step: bool = False
    deliberate: bool = False

    @property
    def crashed(self) -> bool:
        """Whether the program gave no result: it raised, ended its process or ran out of time.

        An exception is a result where the program raised it itself, and where a step on an object raises it, unless
        it is one that mistakes in programs raise.
        """
        if self.deliberate:
            return False
        if self.is_step and "raised" in self.seen:
            return self.seen["raised"] in _MISTAKES
        return "returned" not in self.seen

    @property
    def missing_module(self) -> str | None:
        """Name of the module that the sandbox lacks and the program imports; None if that is not how it ended."""
        raised = self.seen.get("raised")
        if not isinstance(raised, str):
            return None
        found = re.fullmatch(r"ModuleNotFoundError: No module named '([^'.]+).*", raised)
        return found[1] if found else None

    @property
    def text(self) -> str:
        """Describe the outcome for people, in bounded length."""
        if not self.stable:
            return "not deterministic"
        parts = []
        if "ended" in self.seen:
            parts.append(_ENDS[self.seen["ended"]])
        if "raised" in self.seen:
            parts.append(f"raised {self.seen['raised']}")
        if "returned" in self.seen and (
            self.seen["returned"] is not None or not self.seen.keys() & {"printed", "files"}
        ):
            parts.append(_shown(self.seen["returned"]))
        if "changed" in self.seen:
            parts.append(f"arguments {_shown(self.seen['changed'])}")
        if "printed" in self.seen:
            parts.append(f"printed {_shown(self.seen['printed'])}")
        if "files" in self.seen:
            parts.append(f"wrote {_shown(self.seen['files'])}")
        text = ", ".join(parts)
        return text if len(text) <= _TEXT else text[: _TEXT - 4] + " ..."

    def matches(self, other: Outcome) -> bool:
        """Return whether two outcomes agree: equal values (floats to 6 digits), the same exception and printed lines.

        An outcome that is not deterministic matches only others that are not.
        """
        if not (self.stable and other.stable):
            return self.stable == other.stable
        return (
            self.seen.keys() - {"printed"} == other.seen.keys() - {"printed"}
            and all(_equal(value, other.seen[part]) for part, value in self.seen.items() if part != "printed")
            and _lines(self.seen.get("printed", "")) == _lines(other.seen.get("printed", ""))
        )


def read_outcome(told: Any) -> Outcome:
    """Read the outcome on one input from the observer's data.

    Data that no observer writes can only be forged by the program; they are read as the end of the program's process.
    """
    try:
        if isinstance(told, dict) and told.keys() <= {*_PARTS, "stable", "stable_items", "deliberate"}:
            seen = {part: value for part, value in told.items() if part in _PARTS}
            items = told.get("stable_items", [])
            if seen and isinstance(items, list) and all(_PARTS[part](value) for part, value in seen.items()):
                stable, deliberate = bool(told.get("stable", True)), "raised" in seen and bool(told.get("deliberate"))
                return Outcome(seen, stable, tuple(map(bool, items)), deliberate=deliberate)
    except RecursionError:
        pass
    return Outcome({"ended": "exit"})


def read_steps(whole: Outcome, count: int) -> tuple[Outcome, ...]:
    """Split the outcome of the driver's call into one outcome per step on the object.

    Args:
        whole: The outcome of the driver's call.
        count: The number of steps.

    Returns:
        One outcome per step; all are the same if no object was made or the driver's result was too long.
    """
    returned = whole.seen.get("returned")
    if isinstance(returned, list) and returned[:1] == ["list"] and len(returned[1]) == count:
        steps = []
        stable = whole.stable_items if len(whole.stable_items) == count else (whole.stable,) * count
        for told, same in zip(returned[1], stable, strict=True):
            match told:
                case ["list", [["str", "returned"], form]]:
                    steps.append(Outcome({"returned": form}, same, is_step=True))
                case ["list", [["str", "raised" | "raised on purpose" as end], ["str", str(name)]]]:
                    deliberate = end != "raised"
                    steps.append(Outcome({"raised": name}, same, is_step=True, deliberate=deliberate))
                case _:
                    return (Outcome({"ended": "exit"}),) * count
        if "files" in whole.seen and steps:
            # files are compared once, after all steps
            seen = {**steps[-1].seen, "files": whole.seen["files"]}
            steps[-1] = replace(steps[-1], seen=seen, stable=steps[-1].stable and whole.stable)
        return tuple(steps)
    return (whole if "returned" not in whole.seen or returned is not None else Outcome({"ended": "exit"}),) * count


def _is_form(data: Any) -> bool:
    """Return whether data is a canonical form as the observed process writes it."""
    if data is None or isinstance(data, bool):
        return True
    if not isinstance(data, list) or not data or not isinstance(data[0], str):
        return False
    is_content = _FORMS.get(data[0])
    return is_content is not None and is_content(data[1:])


def _is_pair(data: Any) -> bool:
    return isinstance(data, list) and len(data) == 2 and all(map(_is_form, data))


def _is_call(data: Any) -> bool:
    """Return whether data are the arguments of a call of a returned function, how it ended, and its result."""
    if not isinstance(data, list) or len(data) != 3 or not _is_str(data[1]):
        return False
    return isinstance(data[0], list) and data[0][:1] == ["list"] and _is_form(data[0]) and _is_form(data[2])


def _is_one(test: Callable[[Any], bool]) -> Callable[[list[Any]], bool]:
    """Return a test for a content of exactly one part, which must pass `test`."""
    return lambda content: len(content) == 1 and test(content[0])


def _are_all(test: Callable[[Any], bool]) -> Callable[[list[Any]], bool]:
    """Return a test for a content that is one list, whose items must all pass `test`."""
    return _is_one(lambda items: isinstance(items, list) and all(map(test, items)))


def _is_str(data: Any) -> bool:
    return isinstance(data, str)


_INT = re.compile(r"-?[0-9a-f]+")
_FLOAT = re.compile(r"nan|-?inf|-?[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?")
_FORMS: dict[str, Callable[[list[Any]], bool]] = {
    "int": _is_one(lambda data: _is_str(data) and _INT.fullmatch(data) is not None),
    "float": _is_one(lambda data: _is_str(data) and _FLOAT.fullmatch(data) is not None),
    "str": _is_one(_is_str),
    "deep": _is_one(_is_str),
    "list": _are_all(_is_form),
    "set": _are_all(_is_form),
    "dict": _are_all(_is_pair),
    "function": _are_all(_is_call),
    "object": lambda content: (
        len(content) == 2 and _is_str(content[0]) and (_is_str(content[1]) or _is_form(content[1]))
    ),
    "long": lambda content: len(content) == 2 and isinstance(content[0], int) and _is_str(content[1]),
}


def _is_text(data: Any) -> bool:
    return isinstance(data, str) or (isinstance(data, list) and data[:1] == ["long"] and _is_form(data))


_PARTS: dict[str, Callable[[Any], bool]] = {
    "returned": _is_form,
    "changed": _is_form,
    "files": _is_form,
    "printed": _is_text,
    "raised": _is_text,
    "ended": lambda data: _is_str(data) and data in _ENDS,
}


def _lines(printed: object) -> object:
    return [line.rstrip() for line in printed.rstrip().splitlines()] if isinstance(printed, str) else printed


def _number(data: object) -> int | float | None:
    if isinstance(data, list) and len(data) == 2:
        if data[0] == "int":
            return int(data[1], 16)
        if data[0] == "float":
            return float(data[1])
    return None


def _equal(a: Any, b: Any) -> bool:
    """Return whether two canonical forms (see `nad_sandbox.harness.canonical_form`) stand for the same value."""
    if a == b:
        return True
    x, y = _number(a), _number(b)
    if x is not None and y is not None:
        try:
            return x == y or math.isclose(x, y, rel_tol=1e-6, abs_tol=1e-9) or (math.isnan(x) and math.isnan(y))
        except OverflowError:  # the whole number is larger than any float
            return False
    if not (isinstance(a, list) and isinstance(b, list)) or len(a) != len(b):
        return False
    return all(_equal(left, right) for left, right in zip(a, b, strict=True))


def _shown(data: Any) -> str:
    """Return a canonical form as approximate Python source."""
    if not isinstance(data, list):
        return repr(data)
    number = _number(data)
    if number is not None:
        return "a long number" if isinstance(number, int) and abs(number) >= 10**300 else repr(number)
    return _shown_content(data[0], data[1:])


def _shown_content(kind: str, content: list[Any]) -> str:
    """Return the content of a form that is no number, by its kind."""
    if kind == "str":
        return repr(content[0])
    if kind in ("list", "set"):
        items = ", ".join(map(_shown, content[0]))
        return f"[{items}]" if kind == "list" else f"{{{items}}}"
    if kind == "dict":
        return f"{{{', '.join(f'{_shown(k)}: {_shown(v)}' for k, v in content[0])}}}"
    if kind == "function":
        return _shown_calls(content[0])
    if kind == "long":
        return f"<a long result: {content[0]} characters, SHA-256 {content[1][:8]}>"
    parts = [part if isinstance(part, str) else _shown(part) for part in content]
    return f"<{' '.join(part for part in parts if part)}>"


def _shown_calls(calls: list[list[Any]]) -> str:
    """Return what a function does, from its calls; those that gave something come first."""
    told = [f"({_shown(given)[1:-1]}) gives {_shown(form)}" for given, end, form in calls if end == "returned"]
    told += [f"({_shown(given)[1:-1]}) prints {_shown(form)}" for given, end, form in calls if end == "printed"]
    raised = dict.fromkeys(form[1] for _, end, form in calls if end == "raised" and form and form[:1] == ["str"])
    told = list(dict.fromkeys(told))
    told += [f"otherwise raises {' or '.join(raised)}"] if raised else []
    return f"<function: {', '.join(told)}>" if told else "<function>"
