"""Cells of the tables: a result, or the error in its place."""

from __future__ import annotations

from collections.abc import Callable

import torch


def milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.1f} ms"


def attempt(run: Callable[[], str]) -> str:
    """Return a cell of a table: the result, or the error in its place."""
    try:
        return run()
    except Exception as error:  # noqa: BLE001 - the other rows are still to be measured
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return failure(error)


def failure(error: Exception) -> str:
    text = " ".join(str(error).split()).replace("|", "/")
    return f"FAILED: {type(error).__name__}: {text[:200]}"
