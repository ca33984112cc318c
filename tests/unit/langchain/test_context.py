"""The context in the model's profile, prompts that do not fit it, and counting tokens."""

import json
import logging
import struct

import pytest
from langchain_core.exceptions import ContextOverflowError
from langchain_core.messages import HumanMessage, trim_messages
from langchain_nad import NADChatModel, PromptOverflowError

from nad_agents import ConfigurationError, PromptError
from nad_agents.models.known_context import known_context_length
from tests.unit.langchain.chats import tiny_chat


def gguf_header(**values):
    entries = b""
    for key, (kind, packed) in values.items():
        name = key.replace("__", ".").encode()
        entries += struct.pack("<Q", len(name)) + name + struct.pack("<I", kind) + packed
    return b"GGUF" + struct.pack("<IQQ", 3, 0, len(values)) + entries


def text(value):
    return struct.pack("<Q", len(value)) + value.encode()


HEADER = gguf_header(
    general__architecture=(8, text("llama")),
    general__tags=(9, struct.pack("<IQ", 8, 2) + text("a") + text("b")),
    general__sizes=(9, struct.pack("<IQ3I", 4, 3, 1, 2, 3)),
    general__flag=(7, b"\x01"),
    llama__context_length=(4, struct.pack("<I", 8192)),
)


@pytest.mark.parametrize(
    ("config", "length"),
    [
        ({"max_position_embeddings": 4096}, 4096),
        ({"n_positions": 1024}, 1024),
        ({"text_config": {"max_position_embeddings": 131072}, "model_type": "gemma3"}, 131072),
        ({}, None),
        ([], None),
    ],
)
def test_the_profile_has_the_context_of_a_folder(tmp_path, config, length):
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert NADChatModel(model=str(tmp_path)).profile.get("max_input_tokens") == length


def test_the_profile_has_the_context_of_a_gguf_file(tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes(HEADER)
    assert NADChatModel(model=str(path)).profile["max_input_tokens"] == 8192


@pytest.mark.parametrize("data", [b"", b"GGUF", HEADER[:40], HEADER[:-2], b"JUNK" + HEADER[4:]])
def test_a_damaged_file_is_left_to_loading(tmp_path, data):
    path = tmp_path / "model.gguf"
    path.write_bytes(data)
    assert known_context_length(path) is None


@pytest.mark.parametrize("model", ["nobody/has-this-model", "no hub id at all/ /", ""])
def test_an_unknown_model_has_no_known_context(model):
    assert known_context_length(model) is None


def test_a_decoder_says_its_context():
    chat = tiny_chat()
    assert chat.profile["max_input_tokens"] == chat.decoder.engine.context_length


LONG = "word " * 500


def test_a_prompt_that_is_too_long_is_an_overflow_of_the_context(caplog):
    chat = tiny_chat()
    chat.decoder.loaded.tokenizer.deprecation_warnings.clear()
    with caplog.at_level(logging.WARNING), pytest.raises(PromptOverflowError, match="shorten it") as caught:
        chat.invoke(LONG)
    assert isinstance(caught.value, PromptError)
    assert isinstance(caught.value, ContextOverflowError)
    assert not caplog.records
    with pytest.raises(ContextOverflowError):
        list(chat.stream(LONG))


def test_no_room_for_the_answer_is_one_too():
    with pytest.raises(ContextOverflowError, match="exceed the 512 tokens"):
        tiny_chat(max_tokens=500).invoke("hello, how are you?")


async def test_without_blocking():
    with pytest.raises(ContextOverflowError):
        await tiny_chat().ainvoke(LONG)


def test_nothing_has_no_tokens():
    chat = tiny_chat()
    assert chat.get_num_tokens_from_messages([]) == 0
    for strategy in ("first", "last"):
        options = {"token_counter": chat, "allow_partial": True, "strategy": strategy}
        assert trim_messages([], max_tokens=5, **options) == []
        assert trim_messages([HumanMessage("one\ntwo\nthree")], max_tokens=3, **options) == []


@pytest.mark.parametrize("name", ["max_tokens", "max_new_tokens"])
def test_a_wrong_limit_of_one_call_is_called_max_tokens(name):
    with pytest.raises(ConfigurationError, match=r"^max_tokens=0: "):
        tiny_chat().invoke("hello", **{name: 0})
