"""Variables of the chat template in requests: how thinking is switched off, in the words of several servers."""

import copy

import openai
import pytest

from tests.tiny_models import byte_tokenizer
from tests.unit.server.servers import http, make_app

CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"
ASKED = {
    CHAT: {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 2},
    RESPONSES: {"input": "hi", "max_output_tokens": 2},
}
THINKS = "{% if enable_thinking is defined and enable_thinking is false %}[no thoughts, please]{% endif %}"
LEVELS = "{{ '[effort ' ~ (reasoning_effort or 'medium') ~ ']' }}"


def app_of(addition=""):
    tokenizer = copy.deepcopy(byte_tokenizer())
    tokenizer.chat_template += addition
    return make_app(tokenizer=tokenizer)


@pytest.fixture(scope="module")
def thinking():
    return app_of(THINKS)


@pytest.fixture(scope="module")
def levelled():
    return app_of(LEVELS)


@pytest.fixture(scope="module")
def plain():
    return app_of()


async def post(app, path, **change):
    async with http(app) as wire:
        return await wire.post(path, json={"model": "tiny", "nad": {"n": 2}, **ASKED[path], **change})


async def prompt_tokens(app, path, **change):
    answer = await post(app, path, **change)
    assert answer.status_code == 200, answer.text
    usage = answer.json()["usage"]
    return usage["prompt_tokens" if path == CHAT else "input_tokens"]


@pytest.mark.parametrize("path", ASKED)
@pytest.mark.parametrize(
    "said",
    [
        {"chat_template_kwargs": {"enable_thinking": False}},
        {"enable_thinking": False},
        {"enable_thinking": True, "chat_template_kwargs": {"enable_thinking": False}},
    ],
)
async def test_the_template_gets_its_variables(thinking, path, said):
    more = len("[no thoughts, please]")
    plain = await prompt_tokens(thinking, path)
    assert await prompt_tokens(thinking, path, **said) == plain + more
    assert await prompt_tokens(thinking, path, enable_thinking=True) == plain
    assert await prompt_tokens(thinking, path, chat_template_kwargs={}) == plain


@pytest.mark.parametrize(("path", "field"), [(CHAT, "reasoning_effort"), (RESPONSES, "reasoning")])
async def test_effort_goes_to_where_the_model_has_it(thinking, levelled, plain, path, field):
    def effort(value):
        return {field: {"effort": value} if field == "reasoning" else value}

    assert await prompt_tokens(levelled, path, **effort("low")) == await prompt_tokens(levelled, path) - 3
    assert await prompt_tokens(thinking, path, **effort("none")) > await prompt_tokens(thinking, path)
    assert await prompt_tokens(plain, path, **effort("none")) == await prompt_tokens(plain, path)
    # a hint, which is no reason to refuse the request where the model has no levels
    for app in (thinking, plain):
        answer = await post(app, path, **effort("low"))
        assert answer.json()["nad"]["ignored"] == ["reasoning_effort" if path == CHAT else "reasoning.effort"]
    assert "ignored" not in (await post(levelled, path, **effort("low"))).json()["nad"]
    assert "ignored" not in (await post(thinking, path, **effort("none"))).json()["nad"]


@pytest.mark.parametrize("path", ASKED)
@pytest.mark.parametrize(
    "name", ["messages", "tools", "add_generation_prompt", "tokenize", "return_tensors", "chat_template", "self",
             "documents", "continue_final_message", "eos_token", "padding"]
)  # fmt: skip
async def test_what_is_not_the_callers_to_set_is_refused_by_name(plain, path, name):
    refused(await post(plain, path, chat_template_kwargs={name: "x"}), f"chat_template_kwargs.{name}")


@pytest.mark.parametrize("path", ASKED)
async def test_what_the_template_does_not_read_is_refused_by_name(plain, path):
    answer = await post(plain, path, chat_template_kwargs={"enable_thinking": True})
    refused(answer, "chat_template_kwargs.enable_thinking")
    refused(await post(plain, path, enable_thinking=True), "enable_thinking")
    refused(await post(plain, path, think=True), "think")
    refused(await post(plain, path, thinking={"type": "enabled"}), "thinking")
    refused(await post(plain, path, chat_template_kwargs={"a-b*": 1}), "chat_template_kwargs.a-b*")
    malformed = await post(plain, path, chat_template_kwargs="enable_thinking")
    assert (malformed.status_code, malformed.json()["error"]["param"]) == (400, "chat_template_kwargs")


@pytest.mark.parametrize("path", ASKED)
@pytest.mark.parametrize(
    ("said", "name"),
    [
        ({"enable_thinking": False}, "enable_thinking"),
        ({"chat_template_kwargs": {"enable_thinking": False}}, "chat_template_kwargs.enable_thinking"),
        ({"chat_template_kwargs": {"thinking": False}}, "chat_template_kwargs.thinking"),
        ({"chat_template_kwargs": {"reasoning_effort": "low"}}, "chat_template_kwargs.reasoning_effort"),
        ({"think": False}, "think"),
        ({"think": "low"}, "think"),
        ({"thinking": {"type": "disabled"}}, "thinking"),
        ({"thinking": {"type": "auto"}}, "thinking"),
        ({"thinking": False}, "thinking"),
        ({"reasoning_effort": "none"}, "reasoning_effort"),
        ({"reasoning": {"effort": "high"}}, "reasoning.effort"),
    ],
)
async def test_a_model_that_cannot_think_need_not_be_told_not_to(plain, path, said, name):
    answer = await post(plain, path, **said)
    assert answer.status_code == 200, answer.text
    assert answer.json()["nad"]["ignored"] == [name]


@pytest.mark.parametrize("path", ASKED)
@pytest.mark.parametrize("said", [{"think": False}, {"thinking": {"type": "disabled"}}, {"thinking": False}])
async def test_a_model_that_can_think_is_told_not_to_in_every_clients_words(thinking, path, said):
    plain = await prompt_tokens(thinking, path)
    assert await prompt_tokens(thinking, path, **said) == plain + len("[no thoughts, please]")
    assert "ignored" not in (await post(thinking, path, **said)).json()["nad"]
    budget = {"thinking": {"type": "enabled", "budget_tokens": 99}}
    refused(await post(thinking, path, **budget), "thinking.budget_tokens")


async def test_a_value_that_the_template_cannot_take_is_a_wrong_prompt():
    app = app_of("{{ 1 // divisor if divisor is defined else '' }}")
    answer = await post(app, CHAT, chat_template_kwargs={"divisor": 0})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_prompt")


async def test_the_real_client_sends_it(thinking):
    async with http(thinking) as wire:
        client = openai.AsyncOpenAI(base_url="http://server/v1", api_key="k", http_client=wire, max_retries=0)
        asked = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
        whole = await client.chat.completions.create(**asked)
        off = {"chat_template_kwargs": {"enable_thinking": False}}
        quiet = await client.chat.completions.create(**asked, extra_body=off)
        none = await client.chat.completions.create(**asked, reasoning_effort="none")
        assert quiet.usage.prompt_tokens == none.usage.prompt_tokens == whole.usage.prompt_tokens + 21
        with pytest.raises(openai.BadRequestError, match="tokenize"):
            await client.chat.completions.create(**asked, extra_body={"chat_template_kwargs": {"tokenize": False}})


def refused(answer, param):
    error = answer.json().get("error", {})
    assert (answer.status_code, error.get("param"), error.get("code")) == (400, param, "unsupported_parameter"), error
    assert param.rsplit(".", 1)[-1] in error["message"]
