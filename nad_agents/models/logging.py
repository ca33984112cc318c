"""Loading without a word from transformers, huggingface_hub or tqdm; what the user should know goes through logging."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable, Iterator
from typing import Any

from transformers import utils

__all__ = ["Progress", "announce", "logger", "quiet"]

logger = logging.getLogger("nad_agents")

Progress = Callable[[str], None]
"""Receives one line about a step that takes long."""


def announce(message: str, progress: Progress | None) -> None:
    """Tell the user of a step that takes long: through `progress` if there is one, else as a logged warning."""
    if progress is not None:
        progress(message)
        logger.info(message)
    else:
        # a warning, because Python shows those without any set-up, and minutes of silence look like a hang
        logger.warning(message)


@contextlib.contextmanager
def quiet(*, stderr: bool = False) -> Iterator[None]:
    """Silence transformers and huggingface_hub for a while; process-wide, so callers hold a lock.

    Args:
        stderr: also swallow what is printed to sys.stderr, for progress bars that cannot be switched off.
    """
    switches: Any = utils.logging
    verbosity, bars = switches.get_verbosity(), switches.is_progress_bar_enabled()
    hub = logging.getLogger("huggingface_hub")  # it reports every retry
    hub_level = hub.level
    switches.set_verbosity_error()
    hub.setLevel(logging.ERROR)
    switches.disable_progress_bar()  # huggingface_hub's too
    try:
        with contextlib.redirect_stderr(io.StringIO()) if stderr else contextlib.nullcontext():
            yield
    finally:
        hub.setLevel(hub_level)
        switches.set_verbosity(verbosity)
        if bars:
            switches.enable_progress_bar()
