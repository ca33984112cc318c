"""The inputs of one prompt, and who may propose further ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["InputProposer", "Inputs"]

InputProposer = Callable[[str, Mapping[str, Mapping[str, Any]] | None], Iterable[object]]
"""Maps a prompt, and the JSON schema of each parameter of the function that is called by its name (None for a script),
to inputs: lists of positional arguments, mappings of keyword arguments, or text (a call as source, or what a script
reads). In a mapping that has all parameters, JSON arrays stand for tuples and sets too. Where objects of a class are
observed, the parameters are the constructor's arguments and the calls of methods that follow."""


@dataclass(frozen=True)
class Inputs:
    """The inputs on which all programs are run.

    Attributes:
        texts: calls as source text, or contents of standard input.
        examples: how many of them, at the beginning, are the prompt's own examples.
        kind: `call` of a function, `script` that reads standard input, or steps on an `object`.
        shown: for each input what is observed on it, for people; several descriptions for the steps on an object.
        driver: source of functions that the calls need, which is appended to every program.
    """

    texts: tuple[str, ...]
    examples: int
    kind: Literal["call", "script", "object"] = "call"
    shown: tuple[tuple[str, ...], ...] = ()
    driver: str = ""

    @property
    def descriptions(self) -> tuple[str, ...]:
        """One description, never an empty one, for everything that is observed."""
        if self.shown:
            return tuple(text for texts in self.shown for text in texts)
        if self.kind == "script":
            return tuple(
                f"the input {text.strip()!r}" if text.strip() else "a run without input" for text in self.texts
            )
        return self.texts
