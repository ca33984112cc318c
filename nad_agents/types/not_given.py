"""`NOT_GIVEN`, for arguments in which None is a value of its own."""

from __future__ import annotations

import enum
from typing import Final

__all__ = ["NOT_GIVEN", "NotGiven"]


class NotGiven(enum.Enum):
    """The type of `NOT_GIVEN`, which stands for an argument that was left out where None is a value of its own."""

    NOT_GIVEN = "NOT_GIVEN"

    def __repr__(self) -> str:
        return self.name


NOT_GIVEN: Final = NotGiven.NOT_GIVEN
"""Stands for an argument that was left out, so that the decoder's or the model's own setting holds."""
