"""LangChain's standard unit suite for chat models; no weights, no network."""

from importlib import import_module
from typing import Any

import pytest
from langchain_nad import NADChatModel
from langchain_tests.unit_tests import ChatModelUnitTests


class TestNADChatModelUnit(ChatModelUnitTests):
    @property
    def chat_model_class(self) -> type[NADChatModel]:
        return NADChatModel

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": "HuggingFaceTB/SmolLM2-135M-Instruct"}

    @property
    def standard_chat_model_params(self) -> dict[str, Any]:
        # a local model has no API key, and refuses what it would not read
        return {name: value for name, value in super().standard_chat_model_params.items() if name != "api_key"}

    @pytest.fixture(autouse=True)
    def the_class_is_allowed(self, monkeypatch) -> None:
        # langchain-core loads its own partners' classes and those that the caller names; the suite cannot name one
        load = import_module("langchain_core.load.load")
        allowed = {*load._get_default_allowed_class_paths("all"), tuple(NADChatModel.lc_id())}
        monkeypatch.setitem(load._default_class_paths_cache, "all", allowed)
