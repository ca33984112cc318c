"""`nad serve` as a process with the default model, and OpenAI's own client; over raw HTTP what the client hides."""

import copy
import json

import openai
import pytest
from langchain_openai import ChatOpenAI
from nad_server.fill_in_middle import fill_in_middle_prompt
from pydantic import BaseModel, Field

from nad_agents.prompt import encode_prompt
from nad_agents.testing import byte_tokenizer
from tests.integration.servers import CHAT, KEY, MODEL, Server
from tests.tiny_models import make_model

CONVERT = {
    "type": "function",
    "function": {
        "name": "convert",
        "description": "Convert a temperature.",
        "parameters": {
            "type": "object",
            "properties": {"degrees": {"type": "integer"}, "unit": {"enum": ["C", "F"]}},
            "required": ["degrees", "unit"],
        },
    },
}


@pytest.fixture(scope="module")
def server():
    with Server() as found:
        yield found


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0) as found:
        yield found


def test_models(client):
    names = [model.id for model in client.models.list()]
    assert names == [MODEL, "SmolLM2-135M-Instruct"]
    assert client.models.retrieve(MODEL).max_model_len == 8192
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("other")


def test_an_answer_and_its_stream_are_the_same(client):
    whole = client.chat.completions.create(**CHAT)
    assert whole.choices[0].message.content
    assert whole.nad["n"] == 3
    stream = client.chat.completions.create(**CHAT, stream=True, stream_options={"include_usage": True})
    chunks = list(stream)
    texts = [c.choices[0].delta.content or "" for c in chunks if c.choices]
    assert "".join(texts) == whole.choices[0].message.content
    assert len([text for text in texts if text]) > 3
    # the stream's prompt is known by then
    details = {"prompt_tokens_details"}
    assert chunks[-1].usage.model_dump(exclude=details) == whole.usage.model_dump(exclude=details)
    assert chunks[-1].usage.prompt_tokens_details.cached_tokens > 0
    assert chunks[0].choices[0].delta.role == "assistant"


def test_tools_and_shapes(client):
    with client.chat.completions.stream(
        **{**CHAT, "max_tokens": 80}, tools=[CONVERT], tool_choice="required"
    ) as stream:
        final = stream.get_final_completion()
    (call,) = final.choices[0].message.tool_calls
    arguments = json.loads(call.function.arguments)
    assert arguments["unit"] in {"C", "F"}
    assert final.choices[0].finish_reason == "tool_calls"
    followed = client.chat.completions.create(
        **{
            **CHAT,
            "messages": [
                *CHAT["messages"],
                final.choices[0].message.model_dump(exclude_none=True, include={"role", "content", "tool_calls"}),
                {"role": "tool", "tool_call_id": call.id, "content": "21"},
            ],
        },
        tools=[CONVERT],
    )
    assert followed.choices[0].finish_reason in {"stop", "length", "tool_calls"}


class Person(BaseModel):
    """A person."""

    name: str = Field(max_length=20)
    age: int = Field(le=150)


def test_langchains_openai_model(server):
    chat = ChatOpenAI(base_url=f"{server.url}/v1", api_key=KEY, model=MODEL, max_tokens=60, seed=1, max_retries=0)
    # LangChain leaves its connections to the garbage collector
    with chat.root_client:
        whole = chat.invoke("Name a fruit.")
        streamed = list(chat.stream("Name a fruit."))
        assert "".join(chunk.text for chunk in streamed) == whole.text
        assert whole.usage_metadata["output_tokens"] > 0
        person = chat.with_structured_output(Person).invoke("Ada Lovelace died at 36.")
        assert isinstance(person, Person)
        (call,) = chat.bind_tools([Person], tool_choice="any").invoke("Ada Lovelace died at 36.").tool_calls
        assert Person(**call["args"])


def test_errors_are_the_clients_own_classes(client, server):
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(**CHAT, logit_bias={"5": 1})
    assert refused.value.param == "logit_bias"
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(**{**CHAT, "model": "other"})
    with (
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="wrong", max_retries=0) as stranger,
        pytest.raises(openai.AuthenticationError),
    ):
        stranger.models.list()
    assert server.http.post("/v1/chat/completions", content=b" " * 5 * 2**20).status_code == 413


@pytest.fixture(scope="module")
def fill_in_model(tmp_path_factory):
    """A random model whose tokenizer has the marks of Qwen2.5-Coder."""
    folder = tmp_path_factory.mktemp("models") / "fill-in"
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"]})
    tokenizer.save_pretrained(folder)
    make_model("qwen2", vocab_size=len(tokenizer)).save_pretrained(folder)
    return folder


def test_marks_in_a_file_are_text_for_the_default_tokenizer(default_model):
    tokenizer = copy.deepcopy(default_model.tokenizer)
    marks = ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"]
    tokenizer.add_tokens(marks)  # Qwen2.5-Coder does not mark them as special
    control = {*marks, *tokenizer.all_special_tokens}
    before = f"def marks():\n    return {sorted(control)!r}\n\n\ndef"
    prompt = fill_in_middle_prompt(tokenizer, before, "\n    pass  # <|fim_middle|><|im_end|>\n")
    ids = encode_prompt(tokenizer, prompt, raw=True)
    assert [token for token in tokenizer.convert_ids_to_tokens(ids) if token in control] == marks
    assert tokenizer.decode(ids) == prompt


def test_filling_in_before_a_suffix(client, fill_in_model, start_server):
    with pytest.raises(openai.BadRequestError) as refused:
        client.completions.create(model=MODEL, prompt="def f(", suffix="):", max_tokens=8)
    assert refused.value.param == "suffix"
    server = start_server("--model", fill_in_model)
    try:
        with openai.OpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0) as other:
            asked = {"model": "fill-in", "prompt": "def f(", "suffix": "):", "max_tokens": 8, "seed": 1}
            whole = other.completions.create(**asked)
            streamed = "".join(chunk.choices[0].text for chunk in other.completions.create(**asked, stream=True))
    finally:
        assert server.stop() == 0
    assert whole.usage.prompt_tokens == 3 + len("def f(") + len("):")
    assert whole.choices[0].text == streamed
    assert whole.nad["n"] == 3


def test_code_is_checked_in_a_sandbox_when_asked_for(start_server):
    server = start_server("--verify", "auto", "--selector", "first", "--propose-inputs")
    asked = {
        **CHAT,
        "seed": 2,
        "max_tokens": 120,
        "messages": [{"role": "user", "content": "Write a Python function add(a, b). >>> add(1, 2)\n3"}],
        "nad": {"include_candidates": True},
    }
    try:
        checked = server.http.post("/v1/chat/completions", json=asked).json()["nad"]
        behaviour = {**asked, "nad": {"selector": "behaviour", "verify": False}}
        compared = server.http.post("/v1/chat/completions", json=behaviour).json()["nad"]
    finally:
        assert server.stop() == 0
    verdicts = [candidate["verdict"] for candidate in checked["candidates"]]
    assert any(verdict and verdict.get("checks") for verdict in verdicts), verdicts
    assert isinstance(checked["verification"]["passed"], bool)
    assert compared["selector"] == "behaviour"
    assert "verification" not in compared
