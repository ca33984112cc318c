"""Progress of the candidates as LangChain custom events, for those who listen."""

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
"""Name of the custom event that tells how the candidates grow; its data: tokens (of each live candidate), live (which
ones generate), generated (tokens of all together)."""

_SILENT = {RunManagerMixin.on_custom_event, AsyncCallbackHandler.on_custom_event}


class ProgressReporter:
    """Sends progress to the callbacks of a run.

    Args:
        run_manager: of the model's run. LangChain gives none while streaming; the events then go to the callbacks of
            the chain that the model is part of, if it is part of one.
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
        """Whether anybody listens; without listeners the candidates grow a whole chunk between two looks."""
        return bool(self._handlers)

    def report(self, progress: Progress) -> None:
        """Send an event to every listener."""
        if self._handlers:
            manager = CallbackManager(list(self._handlers), list(self._handlers), parent_run_id=self._parent)
            dispatch_custom_event(PROGRESS_EVENT, _data(progress), config={"callbacks": manager})

    async def areport(self, progress: Progress) -> None:
        """Send an event to every listener, from the event loop."""
        if self._handlers:
            manager = AsyncCallbackManager(list(self._handlers), list(self._handlers), parent_run_id=self._parent)
            await adispatch_custom_event(PROGRESS_EVENT, _data(progress), config={"callbacks": manager})


def _listens(handler: BaseCallbackHandler) -> bool:
    return type(handler).on_custom_event not in _SILENT


def _data(progress: Progress) -> dict[str, Any]:
    return {"tokens": progress.tokens, "live": list(progress.live), "generated": progress.generated}
