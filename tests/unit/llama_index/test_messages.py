"""LlamaIndex's messages as chat templates get them."""

import pytest
from llama_index.core.base.llms.types import (
    CacheControl,
    CachePoint,
    ChatMessage,
    CitableBlock,
    ImageBlock,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)
from llama_index.llms.nad.messages import template_messages

from nad_agents import PromptError


def test_roles():
    roles = ["system", "developer", "user", "assistant", "chatbot", "model", "function"]
    found = template_messages([ChatMessage(role=role, content="x") for role in roles])
    assert [m["role"] for m in found] == ["system", "system", "user", "assistant", "assistant", "assistant", "tool"]
    assert all(m["content"] == "x" for m in found)


def test_blocks():
    citable = CitableBlock(title="t", source="s", content=[TextBlock(text="c")])
    cache = CachePoint(cache_control=CacheControl(type="ephemeral"))
    user = ChatMessage(role="user", blocks=[TextBlock(text="a"), cache, TextBlock(text="b"), citable])
    answer = ChatMessage(
        role="assistant", blocks=[ThinkingBlock(content="hm"), TextBlock(text="a"), TextBlock(text="b")]
    )
    empty = ChatMessage(role="assistant")
    assert [m["content"] for m in template_messages([user, answer, empty])] == ["a\nb\nc", "ab", ""]
    with pytest.raises(PromptError, match="block of type 'image'"):
        template_messages([ChatMessage(role="user", blocks=[ImageBlock(url="http://x/y.png")])])


def test_calls_and_their_results():
    blocks = [
        ToolCallBlock(tool_call_id="c1", tool_name="add", tool_kwargs={"a": 1}),
        ToolCallBlock(tool_name="add", tool_kwargs='{"a": 2}'),
        ToolCallBlock(tool_name="add", tool_kwargs='{"a": '),
    ]
    asked, result = template_messages(
        [
            ChatMessage(role="assistant", blocks=blocks),
            ChatMessage(role="tool", content="3", additional_kwargs={"tool_call_id": "c1", "name": "add"}),
        ]
    )
    assert [(c["id"], c["function"]["arguments"]) for c in asked["tool_calls"]] == [
        ("c1", {"a": 1}),
        ("call_0_1", {"a": 2}),
        ("call_0_2", {"malformed": '{"a": '}),
    ]
    assert result == {"role": "tool", "content": "3", "tool_call_id": "c1", "name": "add"}


def test_calls_of_another_model():
    openai = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    ollama = {"name": "add", "arguments": {"a": 1}}
    for given, expected in ((openai, "c1"), (ollama, "call_0_0")):
        message = ChatMessage(role="assistant", content="", additional_kwargs={"tool_calls": [given]})
        (call,) = template_messages([message])[0]["tool_calls"]
        assert call == {"id": expected, "type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
