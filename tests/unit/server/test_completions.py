"""Text completions: best_of, several prompts, streams."""

import json

import openai
import pytest

from tests.unit.server.servers import http

TEXT = {"model": "tiny", "prompt": "once upon", "seed": 3, "max_tokens": 16}


async def test_best_of_is_the_number_of_candidates(client):
    found = await client.completions.create(**TEXT, best_of=5, n=2, logprobs=0)
    assert found.nad["n"] == 5
    assert [choice.index for choice in found.choices] == [0, 1]
    for choice in found.choices:
        assert len(choice.logprobs.tokens) == len(choice.logprobs.token_logprobs) == len(choice.logprobs.text_offset)
        assert all(logprob <= 0 for logprob in choice.logprobs.token_logprobs)
    with pytest.raises(openai.BadRequestError) as refused:
        await client.completions.create(**TEXT, best_of=1, n=2)
    assert refused.value.param == "n"


async def test_several_prompts_and_their_stream(client):
    asked = {**TEXT, "prompt": ["one", "two"], "n": 2}
    whole = await client.completions.create(**asked)
    assert [choice.index for choice in whole.choices] == [0, 1, 2, 3]
    assert len(whole.nad) == 2
    texts = [""] * 4
    usage = None
    async for chunk in await client.completions.create(**asked, stream=True, stream_options={"include_usage": True}):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            texts[choice.index] += choice.text
    assert texts == [choice.text for choice in whole.choices]
    assert usage == whole.usage


async def test_the_text_is_taken_as_it_is(client):
    found = await client.completions.create(**TEXT)
    assert found.usage.prompt_tokens == len("once upon")


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": [1, 2]}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ["x"] * 40}, "prompt"),
        ({"echo": True}, "echo"),
        ({"logprobs": 3}, "logprobs"),
    ],
)
async def test_what_cannot_be_done_is_refused(app, change, param):
    async with http(app) as wire:
        answer = await wire.post("/v1/completions", json={**TEXT, **change})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"].split(".")[0] == param


async def test_a_model_without_marks_refuses_a_suffix(client):
    with pytest.raises(openai.BadRequestError) as refused:
        await client.completions.create(**TEXT, suffix="the end")
    assert refused.value.param == "suffix"
    assert refused.value.code == "unsupported_parameter"


async def test_the_wire_format_of_a_stream(app):
    async with http(app) as wire:
        answer = await wire.post("/v1/completions", json={**TEXT, "stream": True})
    parts = answer.text.split("\n\n")
    assert parts[-2:] == ["data: [DONE]", ""]
    last = json.loads(parts[-3].removeprefix("data: "))
    assert last["object"] == "text_completion"
    assert last["choices"][0]["finish_reason"] in {"stop", "length"}
    assert last["nad"]["n"] == 4
