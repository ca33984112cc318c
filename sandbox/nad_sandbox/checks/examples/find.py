"""Find the examples of a prompt or docstring: calls with what they return, print or raise."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from nad_sandbox.checks.examples.doctests import read_doctests
from nad_sandbox.checks.examples.prose import read_calls, read_named_arguments
from nad_sandbox.checks.examples.scanner import Comparison, Reading, literal, plain_call
from nad_sandbox.checks.examples.wording import docstring_spans, tells_of_a_bug
from nad_sandbox.checks.guarded_parse import parse_expression, parse_program, unparse

__all__ = ["Comparison", "Example", "FoundExamples", "UncertainExample", "find_examples", "read_examples"]

_LONGEST_PROMPT = 1_000_000
_LONGEST_TEXT = 120
_DEFINED = re.compile(r"^(?P<indent>[ \t]*)(?:async )?def (?P<name>\w+)\((?P<parameters>[^)]*)", re.MULTILINE)
_ASKED = re.compile(
    r"\b(?:functions?|methods?|procedure|routine|write|implement|create|define|complete|code|build|make|called|named)"
    r"[ \t]+(?:(?:me |a |an |the |python |function |called |named |async )*)[`*\"']{0,3}(?P<name>[A-Za-z_]\w*)"
    r"(?:\((?P<parameters>[\w \t,=:]*)\)|(?P<named>[`*\"'])|(?=[ \t.,:]))",
    re.IGNORECASE,
)
_NAMED = re.compile(r"(?:called|named)[ \t]+[`*\"']{0,3}\w+$", re.IGNORECASE)
_DOCTEST_LINE = re.compile(r"^[ \t]*(?:>>>|\.\.\.)[ \t][^\n]*", re.MULTILINE)
_ANY_ORDER = re.compile(
    r"\b(?:in )?(?:any|arbitrary|no particular|an unspecified) order\b"
    r"|\border (?:does not|doesn['’]t|is not) (?:matter|important)"
    r"|\border of (?:the )?(?:\w+ )?(?:does not|doesn['’]t) matter",
    re.IGNORECASE,
)
_ANY_ANSWER = re.compile(
    r"\breturn any\b|\bany (?:one )?of them\b|\bany (?:valid|correct|such|possible) (?:answer|solution|result|one)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Example:
    """A call and its expected result.

    Attributes:
        call: Source of an expression that is one call with plain arguments.
        expected: Source of a literal, the output as doctest shows it, or an exception's class and message.
        names: Names of the functions that the call needs.
        comparison: How `expected` is compared; see `Comparison`.
        options: Doctest's option flags, for output and errors.
    """

    call: str
    expected: str
    names: tuple[str, ...]
    comparison: Comparison = "value"
    options: int = 0


@dataclass(frozen=True)
class UncertainExample:
    """A place that may be an example and is not checked, since a wrong reading would reject correct programs.

    Attributes:
        text: The place, as it appears in the prompt.
        reason: Why the place is not checked.
    """

    text: str
    reason: str

    def __str__(self) -> str:
        return f"{self.text}: {self.reason}"


@dataclass(frozen=True)
class FoundExamples:
    """The examples of a prompt.

    Attributes:
        examples: The certain examples, in order, without repetition.
        uncertain: The places that may be examples and are not checked.
    """

    examples: tuple[Example, ...]
    uncertain: tuple[UncertainExample, ...]


def find_examples(prompt: str) -> tuple[Example, ...]:
    """Return the certain examples of a prompt; see `read_examples`.

    Args:
        prompt: The prompt that the model is asked.
    """
    return read_examples(prompt).examples


def read_examples(prompt: str) -> FoundExamples:
    """Return the examples of a prompt, and the places that may be examples and are not checked.

    Three forms are found. Doctests are read as the module doctest reads them, with tracebacks, options and printed
    lines. Calls may stand beside their value: ``f(1) == 2``, ``assert f(1) == 2``, ``f(1) -> 2``, ``f(1) => 2``,
    ``f(1) = 2``, ``f(1) returns 2``, ``f(0) raises ValueError``. For the last function whose signature the prompt
    gives, ``Input: x = 1`` above ``Output: 2`` and ``For x = 1 the output should be 2`` are read too. Arguments must be
    plain data, since a prompt is text and not a program to run. An example is uncertain when the words around it
    question it, deny it, report it as wrong or continue the value.

    Args:
        prompt: The prompt that the model is asked.
    """
    if len(prompt) > _LONGEST_PROMPT:
        reason = f"the prompt has more than {_LONGEST_PROMPT:,} characters"
        return FoundExamples((), (UncertainExample(_shortened(prompt[:200]), reason),))
    context = _Context(prompt)
    readings = [context.judged(at, reading) for at, reading in _readings(prompt, context)]
    return _gathered(_without_contradictions(_without_helpers(readings)))


def _readings(prompt: str, context: _Context) -> Iterator[tuple[int, Reading]]:
    yield from read_doctests(prompt)
    prose = _DOCTEST_LINE.sub(lambda match: " " * len(match[0]), prompt)
    yield from _of_one_kind(read_calls(prose))
    yield from read_named_arguments(prompt, context.last_signature)


def _of_one_kind(found: Iterable[tuple[int, Reading]]) -> list[tuple[int, Reading]]:
    """Mark equations of different types as uncertain: ``f(4) = 3`` and ``f(3) = [1, 2]`` may define something."""
    readings = list(found)
    equations = [
        reading for _, reading in readings if not reading.doubt and re.search(r"\)\s*=\s*[^=>\s]", reading.text)
    ]
    values = [value for reading in equations if (value := literal(reading.expected)) is not None]
    if len({type(value) for _, value in values}) <= 1:
        return readings
    doubt = "equations give values of different types, and may be a definition"
    return [(at, replace(r, doubt=doubt) if r in equations else r) for at, r in readings]


class _Context:
    """Facts from the whole prompt: the requested functions, and whether the prompt reports a bug."""

    def __init__(self, prompt: str) -> None:
        self.prompt = prompt
        self.docstrings = docstring_spans(prompt)
        self.functions: set[str] = set()
        self.methods: set[str] = set()
        self.parameters: dict[str, tuple[int, float]] = {}
        self.last_signature: tuple[str, list[str]] | None = None
        for match in _DEFINED.finditer(prompt):
            self._add(match["name"], match["parameters"], defined=True, indented=bool(match["indent"]))
        prose = self._outside(prompt)
        for match in _ASKED.finditer(prose):
            named = match["named"] or _NAMED.search(match[0].rstrip("`*\"' "))
            if match["parameters"] is not None or named:
                self._add(match["name"], match["parameters"] or "", defined=False, indented=False)
        self.reports = tells_of_a_bug(prose)
        self.any_order = _ANY_ORDER.search(prompt) is not None
        self.any_answer = _ANY_ANSWER.search(prompt) is not None

    def _outside(self, prompt: str) -> str:
        parts, at = [], 0
        for start, end in self.docstrings:
            parts.append(prompt[at:start])
            at = end
        return "\n".join([*parts, prompt[at:]])

    def _add(self, name: str, parameters: str, *, defined: bool, indented: bool) -> None:
        order, bounds = _arity(parameters)
        if order[:1] in (["self"], ["cls"]):
            self.methods.add(name)
            return
        self.functions.add(name)
        if bounds is not None and (defined or order):
            self.parameters[name] = bounds
        if defined and not indented and bounds is not None:
            self.last_signature = name, order

    def judged(self, at: int, reading: Reading) -> Reading:
        """Return a reading with the doubt that the prompt as a whole casts on it."""
        call = plain_call(reading.call) if reading.call else None
        if call is None or reading.doubt:
            return reading
        return replace(reading, doubt=self._doubt(at, reading, call[1]))

    def _doubt(self, at: int, reading: Reading, called: tuple[str, ...]) -> str:  # noqa: PLR0911 - a list of rules
        names = set(called)
        if self.functions and not names & self.functions and not names <= self.methods:
            return f"{', '.join(called)} is not the function asked for"
        if names & self.methods - self.functions:
            return "it calls a method without its object"
        if not self._fits(reading.call):
            return "the function takes another number of arguments"
        inside = any(start <= at < end for start, end in self.docstrings)
        if inside and "\\\\" in reading.call + reading.expected:
            return "backslashes in a docstring may be meant once or twice"
        if self.reports and not inside and not _is_normative(reading.text, self.prompt, at):
            return "the prompt speaks of a program that errs"
        value = literal(reading.expected) if reading.comparison != "error" else None
        ordered = value is not None and isinstance(value[1], list | tuple) and len(value[1]) > 1
        if self.any_answer or (self.any_order and ordered):
            return "the prompt allows other orders or answers"
        return ""

    def _fits(self, call: str) -> bool:
        tree = parse_expression(call)
        for node in ast.walk(tree) if tree is not None else ():
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in self.parameters:
                fewest, most = self.parameters[node.func.id]
                if not fewest <= len(node.args) + len(node.keywords) <= most:
                    return False
        return True


def _is_normative(text: str, prompt: str, at: int) -> bool:
    """Return whether a bug report states what the program should do."""
    said = re.search(r"\b(?:should|must|shall|ought to|needs? to|has to|expected|supposed)\b", text, re.IGNORECASE)
    return said is not None or re.search(r"\bassert[ \t]+$", prompt[max(0, at - 20) : at]) is not None


def _arity(parameters: str) -> tuple[list[str], tuple[int, float] | None]:
    """Return the positional parameters, and the least and largest number of arguments of a call, None if unreadable."""
    tree = parse_program(f"def f({parameters[:2000]}): pass")
    function = tree.body[0] if tree is not None else None
    if not isinstance(function, ast.FunctionDef):
        return [], None
    arguments = function.args
    order = [argument.arg for argument in [*arguments.posonlyargs, *arguments.args]]
    required = len(order) - len(arguments.defaults) + sum(default is None for default in arguments.kw_defaults)
    many = arguments.vararg is not None or arguments.kwarg is not None
    return order, (required, math.inf if many else len(order) + len(arguments.kwonlyargs))


def _without_helpers(readings: list[Reading]) -> list[Reading]:
    """Mark calls of functions of the module math as uncertain where there are others: ``gcd`` explains ``lcm``."""
    called = {reading.call.partition("(")[0] for reading in readings if reading.call and not reading.doubt}
    helpers = {name for name in called if hasattr(math, name)}
    if helpers == called or not helpers:
        return readings
    doubt = "it may be of a function that the program does not define"
    return [
        replace(reading, doubt=doubt) if not reading.doubt and reading.call.partition("(")[0] in helpers else reading
        for reading in readings
    ]


def _without_contradictions(readings: list[Reading]) -> list[Reading]:
    """Mark the readings of a call as uncertain when the prompt gives two different values for it."""
    given: dict[str, Reading] = {}
    contradicted = set()
    for reading in readings:
        if reading.doubt:
            continue
        call = _normal(reading.call)
        if call in given and _meaning(given[call]) != _meaning(reading):
            contradicted.add(call)
        given.setdefault(call, reading)
    doubt = "the prompt gives two different results of this call"
    return [
        replace(reading, doubt=doubt) if not reading.doubt and _normal(reading.call) in contradicted else reading
        for reading in readings
    ]


def _normal(call: str) -> str:
    tree = parse_expression(call)
    return (unparse(tree) if tree is not None else None) or call


def _meaning(reading: Reading) -> object:
    value = literal(reading.expected) if reading.comparison != "error" else None
    return repr(value[1]) if value is not None else " ".join(reading.expected.split())


def _gathered(readings: list[Reading]) -> FoundExamples:
    examples: dict[str, Example] = {}
    uncertain: dict[str, UncertainExample] = {}
    for reading in readings:
        call = plain_call(reading.call) if reading.call else None
        if reading.doubt or call is None:
            text = _shortened(reading.text)
            uncertain.setdefault(text, UncertainExample(text, reading.doubt))
        elif call[1]:
            examples.setdefault(
                _normal(reading.call),
                Example(reading.call, reading.expected, call[1], reading.comparison, reading.options),
            )
    return FoundExamples(tuple(examples.values()), tuple(uncertain.values()))


def _shortened(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 4] + " ..."
