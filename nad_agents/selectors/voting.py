"""Majority vote over final answers (self-consistency, Cons@N), for tasks whose answers can be compared."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from nad_agents.exceptions import ConfigurationError
from nad_agents.rollouts import RolloutGroup
from nad_agents.selectors.base import Scores, SelectorBase, mean_logprob
from nad_agents.selectors.fusion import NADFusion

__all__ = ["AnswerExtractor", "ExtractorName", "Majority", "boxed", "exact", "last_number", "stated"]

AnswerExtractor = Callable[[str], str | None]
"""Extracts the final answer from a candidate's text; returns None if there is none."""

ExtractorName = Literal["boxed", "last_number", "stated", "exact"]
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


_STATED = re.compile(
    r"(?:####|\banswer(?: is)?\s*[:=]?)[\s*$(]*(?:(?P<letter>[A-J])(?![\w'])|(?P<number>[-+]?\$?\d[\d,]*(?:\.\d+)?))",
    re.IGNORECASE,
)


def stated(text: str) -> str | None:
    r"""Return the answer that a text states; None if it states none.

    The answer is the boxed text, else the number or the letter of a choice after the last "####", "answer is" or
    "Answer:".
    """
    found = boxed(text)
    if found is not None:
        return last_number(found) if _NUMBER.fullmatch(found.strip("$")) else found
    match = next(reversed(list(_STATED.finditer(text))), None)
    if match is None:
        return None
    return match["letter"].upper() if match["letter"] else last_number(match["number"].replace("$", ""))


def exact(text: str) -> str | None:
    """Return the whole text with runs of white space replaced by one space; None for a blank text."""
    return " ".join(text.split()) or None


_EXTRACTORS: dict[str, AnswerExtractor] = {
    "boxed": boxed,
    "last_number": last_number,
    "stated": stated,
    "exact": exact,
}


@dataclass(frozen=True)
class Majority(SelectorBase):
    """Scores a candidate by the number of candidates with the same answer; ties are broken by mean log-probability.

    A candidate without an answer gets 0, and one without tokens NaN. ``details`` holds the ``answers`` and ``votes``.
    Weighted votes are those of `NADFusion`: the ranks of the voters by agreement and log-probability; candidates that
    the token limit cut have none as long as another is whole, and rank last.

    Attributes:
        extractor: ``boxed`` (mathematics), ``last_number``, ``stated`` (boxed, or after "answer is" or "####"),
            ``exact`` (the whole text), or a callable that maps the text to the answer or None.
        weighted: Whether a candidate's vote counts by its agreement and log-probability.
    """

    name: ClassVar[str] = "majority"
    needs_whole_answers: ClassVar[bool] = True

    extractor: ExtractorName | AnswerExtractor = "boxed"
    weighted: bool = False

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
        weights = np.ones(len(group))
        tie_breaks: tuple[NDArray[np.float64], ...] = (
            np.array([mean_logprob(r) for r in group.rollouts], dtype=np.float64),
        )
        if self.weighted:
            # 0.5 is added, so that the lower-ranked of two voters still counts
            evidence = NADFusion(comparison=self.comparison).score(group)
            tie_breaks = (evidence.values, *evidence.tie_breaks)
            weights = np.where(evidence.values >= 0, 0.5 + evidence.values, 0.0)
        votes: dict[str, float] = {}
        # sorted, so that the order of the candidates cannot change the last bit of a sum
        for weight, answer in sorted((w, a) for w, a in zip(weights.tolist(), answers, strict=True) if a is not None):
            votes[answer] = votes.get(answer, 0.0) + weight
        values = np.array([0.0 if a is None else votes[a] for a in answers], dtype=np.float64)
        if self.weighted:
            values[tie_breaks[0] < 0] = -1.0
        values[[not len(r) for r in group.rollouts]] = np.nan
        ordered = dict(sorted(votes.items(), key=lambda item: (-item[1], item[0])))
        counted = {answer: round(vote, 6) if self.weighted else int(vote) for answer, vote in ordered.items()}
        known = {answer: number for number, answer in enumerate(ordered)}
        column = np.array([[-1 if answer is None else known[answer]] for answer in answers], dtype=np.int64)
        return Scores(values, tie_breaks, {"answers": answers, "votes": counted}, votes=column.reshape(-1, 1))
