"""Observe what programs do: all candidates run on the same inputs, each candidate in one sandbox call."""

from __future__ import annotations

import json
import secrets
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypedDict

from nad_sandbox.base import ExecResult, Sandbox, SandboxFailureError
from nad_sandbox.behaviour.input_set import InputProposer, Inputs
from nad_sandbox.behaviour.inputs import function_inputs, script_inputs
from nad_sandbox.behaviour.object_inputs import class_inputs
from nad_sandbox.behaviour.outcome import Outcome, read_outcome, read_steps
from nad_sandbox.behaviour.own_types import own_types
from nad_sandbox.behaviour.script_source import without_prompts
from nad_sandbox.behaviour.target_class import find_target_classes
from nad_sandbox.behaviour.target_function import find_target_functions, reads_standard_input
from nad_sandbox.checks.code_extraction import LONGEST_PROGRAM, extract_code
from nad_sandbox.checks.fingerprint import normalize_program
from nad_sandbox.checks.guarded_parse import bounded_parsing
from nad_sandbox.harness import observer_source
from nad_sandbox.harness.launch import run_harness

__all__ = ["BehaviourRunner", "Observations"]

_START_SECONDS = 4.0
_KEPT = 8
_TOO_LONG = "too long"


@dataclass(frozen=True)
class Observations:
    """The outcomes of all programs.

    Attributes:
        inputs: Descriptions of the observations: source text of calls, contents of standard input, or the steps that
            lead to an object's state; empty if no program does anything that can be observed.
        examples: Number of inputs, at the beginning, that are the prompt's own examples.
        outcomes: For each answer, in order, its outcome on each input.
    """

    inputs: tuple[str, ...]
    examples: int
    outcomes: tuple[tuple[Outcome, ...], ...]


class _InputOptions(TypedDict):
    """Options of the functions that collect inputs."""

    count: int
    propose: InputProposer | None
    proposed_only: bool


_NOTHING = Outcome({"returned": None})
"""Outcome of a program that neither reads nor prints and defines nothing that can be called."""


class BehaviourRunner:
    """Runs programs on the same inputs, for the selector ``behaviour``.

    Args:
        sandbox: Sandbox that runs the programs.
        max_inputs: Largest number of inputs per prompt.
        seconds_per_input: Wall-clock limit of one call in seconds.
        timeout: Wall-clock limit of both runs of one program in seconds; default: the sandbox's own limit.
        propose: Function that proposes further inputs for a prompt; see `InputProposer`.

    Raises:
        ValueError: A number is not positive.
    """

    def __init__(
        self,
        sandbox: Sandbox,
        *,
        max_inputs: int = 16,
        seconds_per_input: float = 1.0,
        timeout: float | None = None,
        propose: InputProposer | None = None,
    ) -> None:
        if timeout is None:
            timeout = getattr(getattr(sandbox, "limits", None), "timeout", 10.0)
        for name, value in (("max_inputs", max_inputs), ("seconds_per_input", seconds_per_input), ("timeout", timeout)):
            if not value > 0:
                raise ValueError(f"{name} is {value}: it must be positive")
        self.sandbox = sandbox
        self.max_inputs = max_inputs
        self.seconds_per_input = seconds_per_input
        self.timeout = timeout
        self.propose = propose
        # a caller that samples in waves observes the earlier candidates again with each wave
        self._known: OrderedDict[Inputs, dict[str, tuple[Outcome, ...]]] = OrderedDict()
        self._lock = threading.Lock()

    def inputs(self, programs: Sequence[str], prompt: str, *, propose: InputProposer | None = None) -> Inputs:
        """Return the inputs of the programs, and how the programs are run on them.

        Args:
            programs: The programs.
            prompt: The prompt that the programs answer.
            propose: Function that proposes all inputs; None for the prompt's examples, generated values, and the inputs
                that the runner's own function proposes.

        Raises:
            ValueError: A proposed input cannot be used.
            SandboxUnavailableError: The package hypothesis is not installed.
        """
        how: _InputOptions = {
            "count": self.max_inputs,
            "propose": propose or self.propose,
            "proposed_only": propose is not None,
        }
        # the programs are read for their classes, their functions, and the values of their own types
        with bounded_parsing(LONGEST_PROGRAM * (len(programs) + 1)):
            return self._inputs(programs, prompt, how)

    def _inputs(self, programs: Sequence[str], prompt: str, how: _InputOptions) -> Inputs:
        scripts = sum(map(reads_standard_input, programs))
        if 2 * scripts <= len(programs):
            classes = find_target_classes(prompt, programs)
            if classes:
                return class_inputs(prompt, classes, own=own_types(programs), **how)
            functions = find_target_functions(prompt, programs)
            if functions:
                return function_inputs(prompt, functions, own=own_types(programs), **how)
        if not scripts:  # nothing reads the proposed inputs
            how["propose"] = None
        return script_inputs(prompt, programs=programs, **how)

    def observe(
        self, answers: Sequence[str], *, prompt: str = "", propose: InputProposer | None = None
    ) -> Observations:
        """Run every answer's program twice on the same inputs; programs that differ only in form share their outcomes.

        Args:
            answers: The candidates' texts, prose and fences included.
            prompt: The prompt that they answer.
            propose: Function that proposes all inputs of this call; see `inputs`.

        Raises:
            SandboxUnavailableError: No sandbox can be started, or the package hypothesis is not installed.
            SandboxFailureError: The sandbox broke.
            ValueError: A proposed input cannot be used.
        """
        programs = self.programs(answers, prompt)
        short = [program for program in programs if len(program) <= LONGEST_PROGRAM]
        inputs = self.inputs(short, prompt, propose=propose)
        if inputs.kind == "script":
            programs = [without_prompts(program) for program in programs]
        outcomes = self.run(programs, inputs) if inputs.texts else ()
        if all(outcome == _NOTHING for row in outcomes for outcome in row):
            return Observations((), 0, ((),) * len(programs))
        return Observations(inputs.descriptions, inputs.examples, outcomes)

    def programs(self, answers: Sequence[str], prompt: str) -> list[str]:
        """Return the programs in the candidates' answers to a prompt."""
        return [_extracted(answer, prompt) for answer in answers]

    def run(self, programs: Sequence[str], inputs: Inputs) -> tuple[tuple[Outcome, ...], ...]:
        """Return each program's outcome on each input, from two runs; programs that differ only in form run once.

        The outcomes on the latest few sets of inputs are cached.

        Raises:
            SandboxUnavailableError: No sandbox is available.
            SandboxFailureError: The sandbox broke.
        """
        keys = [_key(program) for program in programs]
        with self._lock:
            known = self._known.setdefault(inputs, {})
            self._known.move_to_end(inputs)
            while len(self._known) > _KEPT:
                self._known.popitem(last=False)
        unique = dict(zip(reversed(keys), reversed(programs), strict=True))
        unique = {key: program for key, program in unique.items() if key not in known}
        with ThreadPoolExecutor(getattr(self.sandbox, "parallel", 1), thread_name_prefix="nad-observe") as pool:
            running = {key: pool.submit(self._observe, program, inputs) for key, program in unique.items()}
            try:
                for key, future in running.items():
                    known[key] = future.result()
            finally:
                for future in running.values():
                    future.cancel()
        return tuple(known[key] for key in keys)

    def _observe(self, program: str, inputs: Inputs) -> tuple[Outcome, ...]:
        count = len(inputs.descriptions)
        if len(program) > LONGEST_PROGRAM:
            return (Outcome({"ended": "exit"}),) * count
        kind = "script" if inputs.kind == "script" else "call"
        result, told = self._told(program, kind, inputs.texts, inputs.driver)
        if told is not None and inputs.kind == "object":
            return tuple(
                outcome
                for whole, steps in zip(told, inputs.shown, strict=True)
                for outcome in read_steps(whole, len(steps))
            )
        if told is not None:
            return told
        if result.timed_out:
            return (Outcome({"ended": "timeout"}),) * count
        # the program broke the sandbox, unless a program that does nothing fails too
        if not result.oom_killed and self._told("", "call", ["f()"])[1] is None:
            last = (result.stderr.strip().splitlines() or ["no message"])[-1]
            raise SandboxFailureError(f"the observer ended with status {result.returncode}: {last[:300]}")
        return (Outcome({"ended": "exit"}),) * count

    def _told(
        self, program: str, kind: str, inputs: Sequence[str], driver: str = ""
    ) -> tuple[ExecResult, tuple[Outcome, ...] | None]:
        """Run the observer, and return how it ended and the outcome on each input; None when it reported none."""
        nonce = secrets.token_hex(16)
        output_bytes = getattr(getattr(self.sandbox, "limits", None), "output_bytes", 1 << 16)
        payload = {
            "source": program,
            "driver": driver,
            "kind": kind,
            "inputs": list(inputs),
            "each": self.seconds_per_input,
            "load": self.seconds_per_input + _START_SECONDS,
            "seconds": self.timeout,
            "room": max(100, output_bytes // (4 * len(inputs))),
        }
        feed = json.dumps(payload).encode("ascii")
        seconds = self.timeout + _START_SECONDS
        result = run_harness(self.sandbox, observer_source(), feed, timeout=seconds, secret=nonce.encode("ascii"))
        for line in reversed(result.stdout.splitlines()):
            if line.startswith(nonce):
                # the nonce proves that the observer wrote this; the outcomes in it come from the program's process
                try:
                    told = json.loads(line[len(nonce) :])
                except (ValueError, RecursionError):
                    return result, (Outcome({"ended": "exit"}),) * len(inputs)
                return result, tuple(map(read_outcome, told))
        return result, None


def _extracted(answer: str, prompt: str) -> str:
    """Return the program of an answer; the answer itself, which then fails as a program, where extraction raises."""
    if len(answer) > LONGEST_PROGRAM:
        return answer
    try:
        return extract_code(answer, prompt)
    except Exception:  # noqa: BLE001 - source that makes a parser raise anything is itself at fault
        return answer


def _key(program: str) -> str:
    """Return a key that is equal for programs that differ only in form."""
    if len(program) > LONGEST_PROGRAM:
        return _TOO_LONG
    try:
        return normalize_program(program)
    except Exception:  # noqa: BLE001 - see above
        return program
