"""Majority vote over final answers (self-consistency, Cons@N), for tasks whose answers can be compared."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar, Literal, cast, get_args

import numpy as np

from nad_agents.exceptions import ConfigurationError
from nad_agents.rollouts import RolloutGroup
from nad_agents.selectors.base import Scores, SelectorBase, mean_logprob

__all__ = ["AnswerExtractor", "ExtractorName", "Majority", "boxed", "exact", "last_number"]

AnswerExtractor = Callable[[str], str | None]
"""Extracts the final answer from a candidate's text; returns None if there is none."""

ExtractorName = Literal["boxed", "last_number", "exact"]
"""Names of the built-in extractors."""

_NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?")


def boxed(text: str) -> str | None:
    r"""Return the content of the last complete ``\boxed{...}`` without white space; None if there is none."""
    answer = None
    for match in re.finditer(r"\\boxed\s*\{", text):
        depth = 1
        for position in range(match.end(), len(text)):
            depth += {"{": 1, "}": -1}.get(text[position], 0)
            if depth == 0:
                answer = "".join(text[match.end() : position].split())
                break
    return answer or None


def last_number(text: str) -> str | None:
    """Return the last number in a text, in one notation; None if there is none.

    "1,200.50" and "1200.5" give the same answer.
    """
    numbers = _NUMBER.findall(text)
    if not numbers:
        return None
    value = Decimal(numbers[-1].replace(",", ""))
    if abs(value.adjusted()) > 100:
        return str(value)  # its digits would fill pages
    digits = format(value, "f")
    digits = digits.rstrip("0").rstrip(".") if "." in digits else digits
    return "0" if value == 0 else digits


def exact(text: str) -> str | None:
    """Return the whole text with runs of white space replaced by one space; None for a blank text."""
    return " ".join(text.split()) or None


_EXTRACTORS: dict[str, AnswerExtractor] = {"boxed": boxed, "last_number": last_number, "exact": exact}


@dataclass(frozen=True)
class Majority(SelectorBase):
    """Scores a candidate by the number of candidates with the same answer; ties are broken by mean log-probability.

    A candidate without an answer gets 0, and one without tokens NaN. ``details`` holds the ``answers`` and ``votes``.

    Attributes:
        extractor: ``boxed`` (mathematics), ``last_number``, ``exact`` (the whole text), or a callable that maps the
            text to the answer or None.
    """

    name: ClassVar[str] = "majority"
    needs_whole_answers: ClassVar[bool] = True

    extractor: ExtractorName | AnswerExtractor = "boxed"

    def __post_init__(self) -> None:
        """Check the option."""
        if not callable(self.extractor) and self.extractor not in get_args(ExtractorName):
            names = ", ".join(get_args(ExtractorName))
            msg = f"majority: extractor={self.extractor!r} is unknown; choose one of {names}, or give a callable"
            raise ConfigurationError(msg)

    def score(self, group: RolloutGroup) -> Scores:
        """Score every candidate, in index order.

        Raises:
            ConfigurationError: A callable extractor returned neither text nor None.
        """
        extract = self.extractor if callable(self.extractor) else _EXTRACTORS[self.extractor]
        answers = [extract(r.text) if len(r) else None for r in group.rollouts]
        for answer in cast("list[object]", answers):
            if answer is not None and not isinstance(answer, str):
                msg = f"majority: the extractor returned {answer!r}; it must return a string, or None for no answer"
                raise ConfigurationError(msg)
        votes = Counter(a for a in answers if a is not None)
        values = np.array([0.0 if a is None else votes[a] for a in answers], dtype=np.float64)
        values[[not len(r) for r in group.rollouts]] = np.nan
        tie_break = np.array([mean_logprob(r) for r in group.rollouts], dtype=np.float64)
        ordered = dict(sorted(votes.items(), key=lambda item: (-item[1], item[0])))
        return Scores(values, (tie_break,), {"answers": answers, "votes": ordered})
