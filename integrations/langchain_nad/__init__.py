"""LangChain on local models whose answers are chosen among N candidates by neuron agreement."""

from __future__ import annotations

from langchain_nad.chat_models import NADChatModel
from langchain_nad.decoders import unload_models
from langchain_nad.errors import GenerationTimeoutError
from langchain_nad.progress import PROGRESS_EVENT
from nad_agents._version import __version__

__all__ = ["PROGRESS_EVENT", "GenerationTimeoutError", "NADChatModel", "__version__", "unload_models"]
