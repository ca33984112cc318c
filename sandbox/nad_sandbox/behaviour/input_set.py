"""The inputs for one prompt, and the type of the functions that propose inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["InputProposer", "Inputs"]

InputProposer = Callable[[str, Mapping[str, Mapping[str, Any]] | None], Iterable[object]]
"""Function that maps a prompt, and the JSON schema of each parameter of the called function by its name (None for a
script), to inputs. An input is a list of positional arguments, a mapping of keyword arguments, or text: the source of
a call, or a script's standard input. In a mapping that has all parameters, JSON arrays stand for tuples and sets too.
If objects of a class are observed, the parameters are the constructor's arguments and the method calls that follow; of
several classes, `class` comes first. Of several functions the parameters are `function` and `arguments`."""


@dataclass(frozen=True)
class Inputs:
    """The inputs on which all programs are run.

    Attributes:
        texts: Source text of the calls, or contents of standard input.
        examples: Number of inputs, at the beginning, that are the prompt's own examples.
        kind: `call` for calls of a function, `script` for standard input, or `object` for steps on an object.
        shown: For each input, readable descriptions of its observations; one for each step on an object.
        driver: Source of functions that the calls need; it is appended to every program.
    """

    texts: tuple[str, ...]
    examples: int
    kind: Literal["call", "script", "object"] = "call"
    shown: tuple[tuple[str, ...], ...] = ()
    driver: str = ""

    @property
    def descriptions(self) -> tuple[str, ...]:
        """The description of every observation; no description is empty."""
        if self.shown:
            return tuple(text for texts in self.shown for text in texts)
        if self.kind == "script":
            return tuple(
                f"the input {text.strip()!r}" if text.strip() else "a run without input" for text in self.texts
            )
        return self.texts
