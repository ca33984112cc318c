"""Keep other libraries quiet while a model loads, and tell the user about slow steps through logging."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["ProgressCallback", "announce", "logger", "silence_libraries"]

logger = logging.getLogger("nad_agents")

ProgressCallback = Callable[[str], None]
"""Receives one line about a slow step."""


def announce(message: str, progress: ProgressCallback | None) -> None:
    """Tell the user about a slow step: through `progress` if it is given, else as a logged warning.

    Args:
        message: What takes a while.
        progress: The caller's function for messages; None if there is none.
    """
    if progress is not None:
        progress(message)
        logger.info(message)
    else:
        # a warning, because Python shows warnings without any set-up, and minutes of silence look like a hang
        logger.warning(message)


@contextlib.contextmanager
def silence_libraries(*, stderr: bool = False) -> Iterator[None]:
    """Silence transformers, huggingface_hub and their progress bars in a ``with`` block.

    The setting is process-wide, so callers hold a lock.

    Args:
        stderr: Also discard output to sys.stderr, for progress bars that cannot be switched off.
    """
    # transformers takes seconds to import, and a model's context length is known without it
    from transformers import utils

    transformers_logging: Any = utils.logging
    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    hub = logging.getLogger("huggingface_hub")  # it reports every retry
    hub_level = hub.level
    transformers_logging.set_verbosity_error()
    hub.setLevel(logging.ERROR)
    transformers_logging.disable_progress_bar()  # huggingface_hub's too
    try:
        with contextlib.redirect_stderr(io.StringIO()) if stderr else contextlib.nullcontext():
            yield
    finally:
        hub.setLevel(hub_level)
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
