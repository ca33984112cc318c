"""Extract final answers from texts, and decide which of them are the same."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

from nad_agents.selectors.voting import boxed, last_number

__all__ = ["canonical_answers", "final_answer", "same_answer"]

_LETTER = re.compile(r"[A-E]")
_CHOSEN = re.compile(r"\W*([a-e])(?![a-z])")
_SAID = re.compile(r"answer is\W{0,12}([A-E])\b")
_DECIMAL = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)")
_FRACTION = re.compile(
    r"-?(\\frac(\{(?P<top>\d{1,40})\}\{(?P<bottom>\d{1,40})\}|(?P<up>\d)(?P<down>\d)))|"
    r"-?(?P<over>\d{1,40})/(?P<under>\d{1,40})"
)
_PARTS = (("top", "up", "over"), ("bottom", "down", "under"))
_SPELLINGS = (
    ("\\dfrac", "\\frac"), ("\\tfrac", "\\frac"), ("\\left", ""), ("\\right", ""), ("\\!", ""), ("\\,", ""),
    ("\\$", ""), ("\\%", "%"), ("^\\circ", ""), ("^{\\circ}", ""),
)  # fmt: skip
_WORDS = re.compile(r"\\(?:text|textbf|mathrm)\{([^{}]*)\}")
_UNIT = re.compile(r"(?<=\d)\s*(?:\\ )?\\(?:text|mathrm)\{[^{}]*\}$")


def final_answer(text: str, expected: str) -> str | None:
    """Return the final answer of a text: the content of its last box.

    If nothing is boxed, it is the last number where a number is expected, and the last "answer is C" where a letter is.

    Args:
        text: A candidate's text.
        expected: The right answer, whose form decides which kind of answer is searched.

    Returns:
        The answer; None if the text gives none.
    """
    found = boxed(text)
    if _LETTER.fullmatch(expected):
        named = _CHOSEN.match(_plain(found)) if found is not None else None
        said = None if found is not None else next(reversed(_SAID.findall(text)), None)
        return named[1].upper() if named else said
    if found is None:
        return last_number(text) if _value(expected) is not None else None
    value = _value(found)
    return found if value is None else str(value) if value.denominator == 1 else found


def same_answer(answer: str, expected: str) -> bool:
    """Return whether two answers are equal: as numbers, else as text without white space and TeX spacing.

    Args:
        answer: A candidate's answer.
        expected: The right answer.
    """
    a, b = _value(answer), _value(expected)
    return a == b if a is not None and b is not None else _plain(answer) == _plain(expected)


def canonical_answers(texts: Sequence[str], answers: Sequence[str | None]) -> dict[str, str | None]:
    """Return each text's final answer, spelling answers that are the same alike so that they can be counted.

    Args:
        texts: The candidates' texts.
        answers: The candidates' final answers.
    """
    distinct: list[str] = []
    found: dict[str, str | None] = {}
    for text, answer in zip(texts, answers, strict=True):
        if answer is None:
            found[text] = None
            continue
        known = next((other for other in distinct if same_answer(answer, other)), None)
        if known is None:
            distinct.append(answer)
        found[text] = answer if known is None else known
    return found


def _value(text: str) -> Fraction | None:
    """Return the value of a whole number, decimal or fraction; None for any other text."""
    cleaned = _plain(text).replace(",", "").strip("$%")
    name, equals, rest = cleaned.rpartition("=")
    if equals and name.isalpha():
        cleaned = rest
    match = _FRACTION.fullmatch(cleaned)
    try:
        if match:
            top, bottom = (next(match[name] for name in names if match[name]) for names in _PARTS)
            return (-1 if cleaned.startswith("-") else 1) * Fraction(int(top), int(bottom))
        # an answer may have a hundred digits, but nobody means a million zeros
        return Fraction(cleaned) if _DECIMAL.fullmatch(cleaned) and len(cleaned) < 100 else None
    except ZeroDivisionError:
        return None


def _plain(text: str) -> str:
    for old, new in _SPELLINGS:
        text = text.replace(old, new)
    text = _WORDS.sub(lambda match: match[1], text) if _WORDS.fullmatch(text) else _UNIT.sub("", text)
    return "".join(text.split()).strip("$").rstrip(".").casefold()
