"""Run the candidates' programs on assertions that were written for the prompt, usually by the model itself.

Nothing guarantees that an assertion is right; the selectors `codet` and `b4` of nad-agents take that into account.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from nad_sandbox.base import Sandbox
from nad_sandbox.behaviour.input_set import Inputs
from nad_sandbox.behaviour.json_schema import json_schema, json_value
from nad_sandbox.behaviour.parameter_types import ValueType, parameter_types
from nad_sandbox.behaviour.runner import BehaviourRunner
from nad_sandbox.behaviour.target_function import TargetFunction, find_target_function
from nad_sandbox.checks.guarded_parse import PARSE_ERRORS

__all__ = ["EXPECTED", "AssertionResults", "AssertionRunner", "AssertionWriter"]

EXPECTED = "expected_result"
"""Key of the expected result, next to the arguments, in a written assertion."""

AssertionWriter = Callable[[str, Mapping[str, Mapping[str, Any]]], Iterable[object]]
"""Function that maps a prompt, and the JSON schema of each parameter by its name, to mappings of every parameter and
`expected_result` to a value. JSON arrays stand for tuples and sets too. Items of any other form are ignored."""


@dataclass(frozen=True)
class AssertionResults:
    """The assertions for a prompt, and which of them each program passes.

    Attributes:
        assertions: Source of the assertions; empty if the prompt asks for no function or no assertion was written.
        passed: For each answer, in order, whether its program passes each assertion.
    """

    assertions: tuple[str, ...]
    passed: tuple[tuple[bool, ...], ...]


class AssertionRunner:
    """Runs programs on assertions; the runner for the selectors `codet` and `b4`.

    Args:
        sandbox: Sandbox in which the programs run.
        write: Function that writes the assertions for a prompt; see `AssertionWriter`.
        max_assertions: Largest number of assertions per prompt.
        seconds_per_input: Wall-clock limit for one assertion, in seconds.
        timeout: Wall-clock limit for all assertions of one program, in seconds; default: the sandbox's own limit.

    Raises:
        ValueError: A number is not positive.
    """

    def __init__(
        self,
        sandbox: Sandbox,
        write: AssertionWriter,
        *,
        max_assertions: int = 16,
        seconds_per_input: float = 1.0,
        timeout: float | None = None,
    ) -> None:
        self.write = write
        self.max_assertions = max_assertions
        self._programs = BehaviourRunner(
            sandbox, max_inputs=max_assertions, seconds_per_input=seconds_per_input, timeout=timeout
        )

    def check(self, answers: Sequence[str], *, prompt: str = "") -> AssertionResults:
        """Run every answer's program on the same assertions.

        Args:
            answers: The candidates' texts, including prose and fences.
            prompt: The prompt that the candidates answer.

        Raises:
            SandboxUnavailableError: No sandbox is available.
            SandboxFailureError: The sandbox broke.
        """
        programs = self._programs.programs(answers, prompt)
        target = find_target_function(prompt, programs)
        written = self._written(prompt, target) if target is not None and target.parameters else {}
        if not written:
            return AssertionResults((), ((),) * len(answers))
        driver = resources.files("nad_sandbox.behaviour").joinpath("assertion_driver.py").read_text(encoding="utf-8")
        outcomes = self._programs.run(programs, Inputs(tuple(written.values()), 0, driver=driver))
        passed = tuple(tuple(one.seen.get("returned") is True and one.stable for one in row) for row in outcomes)
        return AssertionResults(tuple(written), passed)

    def _written(self, prompt: str, target: TargetFunction) -> dict[str, str]:
        """Map each assertion, as a person would write it, to the driver's call that checks it."""
        value_types = parameter_types(target.parameters, [])
        named = {
            parameter.name: value_type for parameter, value_type in zip(target.parameters, value_types, strict=True)
        }
        found: dict[str, str] = {}
        for item in self.write(prompt, {name: json_schema(value_type) for name, value_type in named.items()}):
            parts = _parts(item, named)
            if parts is not None and len(found) < self.max_assertions:
                arguments, expected = parts
                shown = f"assert {target.callee}({', '.join(map(repr, arguments))}) == {expected!r}"
                found[shown] = f"_nad_check({target.callee!r}, {tuple(arguments)!r}, {expected!r})"
        return found


def _parts(item: object, named: Mapping[str, ValueType]) -> tuple[list[object], object] | None:
    """Return the arguments and the expected result of a written assertion; None if it is not plain data."""
    if not isinstance(item, Mapping) or item.keys() != {*named, EXPECTED}:
        return None
    arguments = [json_value(value_type, item[name]) for name, value_type in named.items()]
    try:
        ast.literal_eval(repr((arguments, item[EXPECTED])).replace("set()", "None"))
    except PARSE_ERRORS:
        return None
    return arguments, item[EXPECTED]
