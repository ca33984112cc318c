"""Wait for a program without blocking the event loop, and end the program when the waiting task is cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import threading

from nad_sandbox.base import ExecResult

__all__ = ["await_program"]


async def await_program(future: asyncio.Future[ExecResult], cancelled: threading.Event) -> ExecResult:
    """Return the result of a program that a thread supervises.

    Args:
        future: The future result.
        cancelled: Event that ends the program; it is set when the waiting task is cancelled.

    Raises:
        asyncio.CancelledError: The task was cancelled; the program is dead by then.
    """
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        cancelled.set()
        # the caller may rely on the program being dead once its task has ended
        while not future.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([future])
        if not future.cancelled():
            future.exception()
        raise
