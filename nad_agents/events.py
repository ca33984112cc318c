"""What a streaming caller hears while a request runs, in this order."""

from __future__ import annotations

from dataclasses import dataclass

from nad_agents.types import Selection

__all__ = ["DecodingEvent", "Finished", "Progress", "TextDelta", "WinnerChosen"]


@dataclass(frozen=True)
class Progress:
    """The candidates grew by a chunk or less.

    Attributes:
        tokens: tokens of each live candidate.
        live: candidates that still generate.
        generated: tokens of all candidates together.
    """

    tokens: int
    live: tuple[int, ...]
    generated: int


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


DecodingEvent = Progress | WinnerChosen | TextDelta | Finished
