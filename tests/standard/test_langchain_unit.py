"""LangChain's standard unit suite for chat models; no weights, no network."""

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

    @pytest.mark.xfail(
        raises=ValueError,
        reason="allowed_objects='all' of langchain-core 1.7 lists the classes of its own partners by name; "
        "test_serialisation of the unit tests makes the same round trip with the class allowed",
    )
    def test_serdes(self, model, snapshot) -> None:
        super().test_serdes(model, snapshot)
