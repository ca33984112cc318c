"""Quote another library's error in a message of our own."""

from __future__ import annotations

__all__ = ["one_line_error"]


def one_line_error(error: BaseException) -> str:
    """Return the first line of an error's text, cut to 200 characters; the error's class name if it has no text."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    return text if len(text) <= 200 else text[:199] + "…"
