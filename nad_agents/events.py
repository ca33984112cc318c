"""What a streaming caller hears while a request runs, in this order.

A caller that watches hears more than one that waits for the answer: the text of every candidate as it grows, how alike
the candidates are so far, who is dropped, the ranking before it is checked, and each verdict as it comes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nad_agents.rollouts import FinishReason
from nad_agents.types import Selection

__all__ = [
    "CandidateGrowth",
    "Compared",
    "DecodingEvent",
    "Finished",
    "Progress",
    "Pruned",
    "Ranking",
    "TextDelta",
    "Verified",
    "WinnerChosen",
]


@dataclass(frozen=True)
class CandidateGrowth:
    """What happened to one candidate since the last look.

    Attributes:
        candidate: its index.
        text: what its text has grown by; what may yet become a stop string or half a character is held back.
        tokens: that it has now, the end token included.
        finish_reason: "running" while it generates, else why it ended.
    """

    candidate: int
    text: str
    tokens: int
    finish_reason: FinishReason


@dataclass(frozen=True)
class Progress:
    """The candidates grew by a chunk or less.

    Attributes:
        tokens: tokens of each live candidate.
        live: candidates that still generate.
        generated: tokens of all candidates together.
        growth: each candidate that grew or ended; empty unless the caller watches.
    """

    tokens: int
    live: tuple[int, ...]
    generated: int
    growth: tuple[CandidateGrowth, ...] = ()


@dataclass(frozen=True)
class Compared:
    """How alike the candidates are so far, at the end of a chunk; for who watches, where neurons are recorded.

    Attributes:
        tokens: tokens of each live candidate at that moment.
        similarity: N x N, rows in index order; a candidate that was dropped counts with what it had.
        activated_neurons: unique activated neurons of each candidate.
    """

    tokens: int
    similarity: tuple[tuple[float, ...], ...]
    activated_neurons: tuple[int, ...]


@dataclass(frozen=True)
class Pruned:
    """Candidates were dropped at the end of a chunk; for who watches.

    Attributes:
        dropped: the candidates.
        tokens: that each of them had.
        ranking: all candidates, best first, as they stand; those dropped earlier come last.
    """

    dropped: tuple[int, ...]
    tokens: int
    ranking: tuple[int, ...]


@dataclass(frozen=True)
class Ranking:
    """The candidates are ranked, and not checked yet; for who watches.

    Attributes:
        ranking: candidate indices, best first; dropped ones last.
        scores: of each candidate, in index order; NaN where there was nothing to judge.
        to_check: candidates that the verifier may be asked about, in this order; empty without a verifier.
    """

    ranking: tuple[int, ...]
    scores: tuple[float, ...]
    to_check: tuple[int, ...] = ()


@dataclass(frozen=True)
class Verified:
    """The verifier judged a candidate; for who watches, in rank order.

    Attributes:
        candidate: its index.
        verdict: what was found, JSON-serialisable; "passed" says whether it was accepted.
    """

    candidate: int
    verdict: dict[str, Any]


@dataclass(frozen=True)
class WinnerChosen:
    """The selection is made; text deltas of this candidate follow."""

    winner: int


@dataclass(frozen=True)
class TextDelta:
    """The next piece of the answer."""

    text: str


@dataclass(frozen=True)
class Finished:
    """The last event, with the evidence."""

    selection: Selection


DecodingEvent = Progress | Compared | Pruned | Ranking | Verified | WinnerChosen | TextDelta | Finished
