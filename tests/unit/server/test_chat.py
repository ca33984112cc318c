"""Chat completions: whole and streamed, with OpenAI's own client and as they go over the wire."""

import json

from nad_agents.chat.growing_text import GrowingText
from nad_agents.chat.response_parser import ToolCallParser
from tests.unit.server.servers import ADD, CHAT, http, make_app

CALL = {"name": "add", "arguments": '{"a": 1, "b": 2}'}


async def frames(app, body):
    async with http(app) as wire:
        answer = await wire.post("/v1/chat/completions", json={**CHAT, "stream": True, **body})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    parts = answer.text.split("\n\n")
    assert parts[-2:] == ["data: [DONE]", ""]
    return [json.loads(part.removeprefix("data: ")) for part in parts[:-2]]


async def test_the_winner_is_returned_with_its_evidence(client):
    found = await client.chat.completions.create(**CHAT, extra_body={"nad": {"include_candidates": True}})
    evidence = found.nad
    winner = evidence["candidates"][evidence["winner"]]
    assert evidence["ranking"][0] == evidence["winner"]
    assert len(evidence["candidates"]) == evidence["n"] == 4
    (choice,) = found.choices
    assert choice.message.content == winner["text"]
    assert choice.finish_reason == winner["finish_reason"]
    assert found.usage.completion_tokens == winner["tokens"]
    assert found.usage.total_tokens == found.usage.prompt_tokens + found.usage.completion_tokens
    assert evidence["tokens_generated"] == sum(c["tokens"] for c in evidence["candidates"])


async def test_a_seed_repeats_the_answer_and_negative_ones_are_seeds_too(client):
    first, again, other = [
        (await client.chat.completions.create(**{**CHAT, "seed": seed})).choices[0].message.content
        for seed in (-5, -5, 6)
    ]
    assert first == again != other


async def test_n_answers_come_in_order_of_rank(client):
    found = await client.chat.completions.create(**CHAT, n=3, extra_body={"nad": {"include_candidates": True}})
    evidence = found.nad
    best = [evidence["candidates"][i]["text"] for i in evidence["ranking"][:3]]
    assert [choice.message.content for choice in found.choices] == best
    assert [choice.index for choice in found.choices] == [0, 1, 2]


async def test_more_answers_than_candidates_means_more_candidates(client):
    found = await client.chat.completions.create(**CHAT, n=6)
    assert len(found.choices) == found.nad["n"] == 6


async def test_options_behind_the_models_name(client):
    found = await client.chat.completions.create(**{**CHAT, "model": "tiny@n=6,selector=medoid"})
    assert (found.nad["n"], found.nad["selector"]) == (6, "medoid")
    found = await client.chat.completions.create(
        **{**CHAT, "model": "tiny@n=6,selector=medoid"}, extra_body={"nad": {"n": 3}}
    )
    assert (found.nad["n"], found.nad["selector"]) == (3, "medoid")


async def test_temperature_0_is_one_greedy_candidate(client):
    found = await client.chat.completions.create(**CHAT, temperature=0)
    assert (found.nad["n"], found.nad["selector"]) == (1, "first")


async def test_a_server_may_raise_temperature_0():
    async with http(make_app(min_temperature=0.5)) as wire:
        found = (await wire.post("/v1/chat/completions", json={**CHAT, "temperature": 0})).json()
    assert found["nad"]["n"] == 4


async def test_the_stream_says_the_same_as_the_whole_answer(app, client):
    whole = await client.chat.completions.create(**CHAT)
    chunks = await frames(app, {"stream_options": {"include_usage": True}})
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
    texts = [c["choices"][0]["delta"].get("content", "") for c in chunks[:-1]]
    assert "".join(texts) == whole.choices[0].message.content
    assert len([text for text in texts if text]) > 5
    assert [c["choices"][0]["finish_reason"] for c in chunks[:-1]][-1] == whole.choices[0].finish_reason
    assert chunks[-2]["nad"]["winner"] == whole.nad["winner"]
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"] == whole.usage.model_dump(exclude_unset=True)
    assert all(chunk["usage"] is None for chunk in chunks[:-1])
    assert len({chunk["id"] for chunk in chunks}) == 1


async def test_a_stream_of_several_answers(app, client):
    whole = await client.chat.completions.create(**CHAT, n=2)
    texts = ["", ""]
    for chunk in await frames(app, {"n": 2}):
        (choice,) = chunk["choices"]
        texts[choice["index"]] += choice["delta"].get("content", "")
    assert texts == [choice.message.content for choice in whole.choices]


async def test_with_early_selection_the_winner_streams_while_it_is_written(app):
    options = {"nad": {"pruning": "first_chunk"}, "max_tokens": 60}
    async with http(app) as wire:
        whole = (await wire.post("/v1/chat/completions", json={**CHAT, **options})).json()
    chunks = await frames(app, options)
    assert (
        "".join(c["choices"][0]["delta"].get("content", "") for c in chunks)
        == whole["choices"][0]["message"]["content"]
    )
    assert whole["nad"]["tokens_saved"] > 0


async def test_logprobs_belong_to_the_tokens_of_the_text(app, client):
    whole = await client.chat.completions.create(**{**CHAT, "stop": ["e"]}, logprobs=True)
    content = whole.choices[0].logprobs.content
    assert all(entry.logprob <= 0 for entry in content)
    assert len(content) <= whole.usage.completion_tokens
    chunks = await frames(app, {"logprobs": True, "stop": ["e"]})
    parts = [c["choices"][0]["logprobs"] for c in chunks if c["choices"][0]["logprobs"]]
    streamed = [entry for part in parts for entry in part["content"]]
    assert [entry["logprob"] for entry in streamed] == [entry.logprob for entry in content]


async def test_a_forced_tool_call_and_its_stream(app, client):
    asked = {**CHAT, "max_tokens": 60, "tools": [ADD], "tool_choice": {"type": "function", "function": {"name": "add"}}}
    found = await client.chat.completions.create(**asked)
    (choice,) = found.choices
    (call,) = choice.message.tool_calls
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    assert call.function.name == "add"
    assert {type(value) for value in json.loads(call.function.arguments).values()} == {int}
    assert call.id.startswith("call_")
    # older clients stream strict functions only
    strict = {**asked, "tools": [{**ADD, "function": {**ADD["function"], "strict": True}}]}
    async with client.chat.completions.stream(**strict) as stream:
        final = await stream.get_final_completion()
    (streamed,) = final.choices[0].message.tool_calls
    assert (streamed.function.name, streamed.function.arguments) == ("add", call.function.arguments)
    chunks = await frames(app, asked)
    deltas = [c["choices"][0]["delta"] for c in chunks]
    first, second = [delta["tool_calls"][0] for delta in deltas if "tool_calls" in delta][:2]
    assert first["id"].startswith("call_")
    assert first["function"] == {"name": "add", "arguments": ""}
    assert set(second) == {"index", "function"}
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


async def test_an_answer_fits_its_schema(client):
    schema = {"type": "object", "properties": {"n": {"type": "integer", "maximum": 9}}, "required": ["n"]}
    shape = {"type": "json_schema", "json_schema": {"name": "number", "schema": schema, "strict": True}}
    found = await client.chat.completions.create(**{**CHAT, "max_tokens": 80}, response_format=shape)
    assert set(json.loads(found.choices[0].message.content)) == {"n"}
    found = await client.chat.completions.create(**{**CHAT, "max_tokens": 80}, response_format={"type": "json_object"})
    assert isinstance(json.loads(found.choices[0].message.content), dict)


async def test_what_clients_send_along(client):
    conversation = [
        {"role": "developer", "content": [{"type": "text", "text": "be brief"}]},
        {"role": "user", "content": [{"type": "text", "text": "add"}, {"type": "text", "text": "1 and 2"}]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "1", "type": "function", "function": CALL}],
        },
        {"role": "tool", "tool_call_id": "1", "content": "3"},
    ]
    found = await client.chat.completions.create(
        **{**CHAT, "messages": conversation},
        tools=[ADD],
        user="someone",
        frequency_penalty=0,
        extra_body={"something_new": 1, "top_k": 5},
    )
    assert found.choices[0].finish_reason in {"stop", "length", "tool_calls"}


def test_json_that_names_no_tool_streams_while_it_is_written():
    text = 'For example {"name": "Bob", "age": 3}, which is a person.'
    growing = GrowingText(ToolCallParser(("add",)))
    sent = [growing.add(character).content for character in text]
    assert "".join(sent) == text
    assert len([piece for piece in sent if piece]) > 30
