"""What a stream shows while an answer grows: certain text, growing calls, and the same in the end as without it."""

from functools import reduce
from operator import add as merged

import pytest
from langchain_nad.tools import openai_tools

from nad_agents.chat.output_spec import OutputSpec
from tests.unit.langchain.chats import json_decoder, tiny_chat
from tests.unit.langchain.streams import outline, streamed
from tests.unit.langchain.tools import PersonDict, add, now

CALLS = (
    '<tool_call>\n{"name": "add", "arguments": {"a": "}{\\"", "b": [1, {"name": "x", "arguments": {}}]}}\n</tool_call>'
    '\n<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
)


@pytest.fixture(scope="module")
def early():
    """The winner streams from its fourth token on."""
    return tiny_chat(decoder=json_decoder(), max_tokens=44, pruning="first_chunk", chunk_size=4, seed=7)


@pytest.mark.parametrize(
    "text",
    [
        "Plain words.",
        'Use `add` and [1], then {x: "y"} < z.',
        "```python\ndef f(x):\n    return {1: [x]}\n```\nDone.",
        'A person: {"name": "Bob", "age": 3}.',
        'Let me see.\n<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n</tool_call>',
        'Sure:\n```json\n{"name": "add", "arguments": {"a": 1}}\n```',
        '[{"name": "add", "arguments": {}}, {"name": "now", "arguments": {}}]',
        'Sure. {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}',
        '{"type": "function", "name": "other"} is no call.',
        '<tool_call>\n{"name": "add", "arguments": {"a": "</tool_call>"}}\n</tool_call>',
        '\n\nFirst. <tool_call>{"name": "now", "arguments": {}}</tool_call>',
        CALLS,
        # broken ones
        '{"name": "add", "arguments": {"a": ',
        "<tool_call>\nnonsense\n</tool_call>",
        "<tool_call></tool_call>",
        '<tool_call>{"arguments": {}}</tool_call>',
        '{"name": "add", "arguments": [1]}',
        '{"name": "add", "arguments": "a=1"}',
    ],
)
def test_a_stream_adds_up_to_the_message(text, selection):
    chunks, whole = streamed(text, OutputSpec.from_arguments({"tools": openai_tools([add, now])}), selection)
    full = reduce(merged, chunks)
    assert full.content == whole.content
    assert outline(full.tool_calls) == outline(whole.tool_calls)
    assert [c["name"] for c in full.invalid_tool_calls] == [c["name"] for c in whole.invalid_tool_calls]
    assert chunks[-1].chunk_position == "last"


@pytest.mark.parametrize("text", ["First.", ""])
def test_blocks_of_text_and_calls_have_numbers_of_their_own(text, selection):
    """Or langchain-core makes one block of two when it merges chunks of output_version v1."""
    chunks, _ = streamed(text + CALLS, OutputSpec.from_arguments({"tools": openai_tools([add, now])}), selection)
    numbers = [part["index"] for chunk in chunks for part in chunk.tool_call_chunks]
    assert numbers == ([1, 2] if text else [0, 1])


def test_one_call_where_only_one_is_wanted(selection):
    for parallel, count in ((None, 2), (True, 2), (False, 1)):
        output_spec = OutputSpec.from_arguments({"tools": openai_tools([add, now]), "parallel_tool_calls": parallel})
        chunks, whole = streamed(CALLS, output_spec, selection)
        assert len(whole.tool_calls) == len(reduce(merged, chunks).tool_calls) == count


def test_code_and_brackets_stream_although_tools_are_on_offer(selection):
    text = "```python\ndef f(x):\n    return {1: [x]}\n```\nDone."
    chunks, _ = streamed(text, OutputSpec.from_arguments({"tools": openai_tools([add])}), selection)
    assert len([c for c in chunks if c.content]) > 25


@pytest.mark.parametrize("output_version", [None, "v1"])
def test_a_forced_call_streams_as_it_is_written(early, output_version):
    chat = early.model_copy(update={"output_version": output_version})
    bound = chat.bind_tools([add], tool_choice="any")
    chunks = list(bound.stream("hello"))
    parts = [chunk.tool_call_chunks[0] for chunk in chunks if chunk.tool_call_chunks]
    assert len(parts) > 5
    assert [part["name"] for part in parts] == ["add"] + [None] * (len(parts) - 1)
    assert sum(part["id"] is not None for part in parts) == 1
    full = reduce(merged, chunks)
    assert outline(full.tool_calls) == outline(bound.invoke("hello").tool_calls)
    assert [block["type"] for block in full.content_blocks] == ["tool_call"]
    assert full.usage_metadata["input_tokens"] > 0


def test_a_stop_string_may_cut_a_call_so_that_it_comes_whole(early):
    chunks = list(early.bind_tools([add], tool_choice="any").stream("hello", stop=["}}"]))
    full = reduce(merged, chunks)
    assert not full.tool_calls
    assert len(full.invalid_tool_calls) == 1


@pytest.mark.parametrize("method", ["function_calling", "json_schema", "json_mode"])
def test_partial_objects(early, method):
    chain = early.with_structured_output(PersonDict, method=method)
    parts = list(chain.stream("hello"))
    assert len(parts) > 5
    assert set(parts[0]) < {"name", "age"}
    assert set(parts[-1]) == {"name", "age"}
    sizes = [len(str(part)) for part in parts]
    assert sizes == sorted(sizes)


@pytest.mark.parametrize("method", ["function_calling", "json_schema", "json_mode"])
def test_with_the_raw_message_a_stream_ends_with_all_three(early, method):
    chain = early.with_structured_output(PersonDict, method=method, include_raw=True)
    full = reduce(merged, chain.stream("hello"))
    assert set(full) == {"raw", "parsed", "parsing_error"}
    assert full["parsed"] == chain.invoke("hello")["parsed"]
    assert full["raw"].usage_metadata


@pytest.mark.filterwarnings("ignore:.*is in beta")
class TestEventsOfVersion3:
    def test_text_and_usage(self, early):
        stream = early.stream_events("hello", version="v3")
        events = [event["event"] for event in stream]
        assert events[0] == "message-start"
        assert events[-1] == "message-finish"
        assert events.count("content-block-delta") > 5
        assert stream.output.text == early.invoke("hello").text
        assert stream.output.usage_metadata == early.invoke("hello").usage_metadata

    def test_a_call(self, early):
        bound = early.bind_tools([add], tool_choice="any")
        stream = bound.stream_events("hello", version="v3")
        finished = [event["content"] for event in stream if event["event"] == "content-block-finish"]
        assert [block["type"] for block in finished] == ["tool_call"]
        assert outline(stream.output.tool_calls) == outline(bound.invoke("hello").tool_calls)

    async def test_without_blocking(self, early):
        stream = await early.astream_events("hello", version="v3")
        events = [event["event"] async for event in stream]
        assert events[-1] == "message-finish"
        assert (await stream.output).text == early.invoke("hello").text


@pytest.mark.parametrize("output_version", [None, "v1"])
@pytest.mark.parametrize("pruning", ["never", "first_chunk"])
def test_no_part_of_a_stop_string_ever_shows(pruning, output_version):
    chat = tiny_chat(pruning=pruning, chunk_size=4, output_version=output_version, n=2)
    text = chat.invoke("hello").text
    # long ones, whose first characters come token by token before the last one decides
    for start in range(4, len(text) - 6, 8):
        stop = text[start : start + 6]
        shown = ""
        for chunk in chat.stream("hello", stop=[stop, "never said"]):
            shown += chunk.text
            assert text[: text.index(stop)].startswith(shown)
        assert shown == text[: text.index(stop)]
