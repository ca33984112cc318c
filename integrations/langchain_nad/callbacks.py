"""Progress of the candidates as LangChain custom events, sent where a callback handler listens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from langchain_core.callbacks import (
    AsyncCallbackManager,
    AsyncCallbackManagerForLLMRun,
    BaseCallbackHandler,
    CallbackManager,
    CallbackManagerForLLMRun,
    adispatch_custom_event,
    dispatch_custom_event,
)
from langchain_core.callbacks.base import AsyncCallbackHandler, RunManagerMixin
from langchain_core.runnables.config import ensure_config, get_callback_manager_for_config

from nad_agents.events import Progress

__all__ = ["PROGRESS_EVENT", "ProgressReporter"]

PROGRESS_EVENT = "nad_progress"
"""Name of the custom event that reports the growth of the candidates.

Its data: ``tokens`` of each live candidate so far, ``live`` as the indices of the candidates that still generate, and
``generated`` as the number of tokens of all candidates together.
"""

_DO_NOTHING = {RunManagerMixin.on_custom_event, AsyncCallbackHandler.on_custom_event}


class ProgressReporter:
    """Sends the candidates' progress to the callback handlers of a run.

    Args:
        run_manager: Callback manager of the model's run. LangChain gives none while streaming; the events then go to
            the handlers of the chain that the model is part of, if there is one.
    """

    def __init__(self, run_manager: CallbackManagerForLLMRun | AsyncCallbackManagerForLLMRun | None) -> None:
        if run_manager is not None:
            self._handlers: Sequence[BaseCallbackHandler] = run_manager.handlers
            self._parent: UUID | None = run_manager.run_id
        else:
            ambient = get_callback_manager_for_config(ensure_config())
            self._handlers = ambient.handlers if ambient.parent_run_id is not None else ()
            self._parent = ambient.parent_run_id
        self._handlers = [h for h in self._handlers if not h.ignore_custom_event and _listens(h)]

    @property
    def wanted(self) -> bool:
        """Whether any handler listens; without one, the engine generates whole chunks at a time."""
        return bool(self._handlers)

    def report(self, progress: Progress) -> None:
        """Send progress to every handler that listens.

        Args:
            progress: The decoder's event.
        """
        if self._handlers:
            manager = CallbackManager(list(self._handlers), list(self._handlers), parent_run_id=self._parent)
            dispatch_custom_event(PROGRESS_EVENT, _data(progress), config={"callbacks": manager})

    async def areport(self, progress: Progress) -> None:
        """Send progress to every handler that listens, from within an event loop.

        Args:
            progress: The decoder's event.
        """
        if self._handlers:
            manager = AsyncCallbackManager(list(self._handlers), list(self._handlers), parent_run_id=self._parent)
            await adispatch_custom_event(PROGRESS_EVENT, _data(progress), config={"callbacks": manager})


def _listens(handler: BaseCallbackHandler) -> bool:
    return type(handler).on_custom_event not in _DO_NOTHING


def _data(progress: Progress) -> dict[str, Any]:
    return {"tokens": progress.tokens, "live": list(progress.live), "generated": progress.generated}
