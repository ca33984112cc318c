"""Variables of the chat template, of the model and of a call."""

import copy

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.messages import HumanMessage
from langchain_nad import NADLLM, NADChatModel

from nad_agents import ConfigurationError
from nad_agents.prompt import encode_prompt
from tests.tiny_models import byte_tokenizer
from tests.unit.langchain.chats import tiny_chat, tiny_decoder

OFF = {"enable_thinking": False}
ADDED = len("[quiet]")


@pytest.fixture(scope="module")
def thinker():
    tokenizer = copy.deepcopy(byte_tokenizer())
    tokenizer.chat_template += "{% if enable_thinking is defined and not enable_thinking %}[quiet]{% endif %}"
    return tiny_decoder(tokenizer=tokenizer)


def prompt_tokens(answer):
    return answer.usage_metadata["input_tokens"]


def test_those_of_the_model_hold_and_those_of_a_call_win(thinker):
    chat, quiet = tiny_chat(decoder=thinker, n=2), tiny_chat(decoder=thinker, n=2, chat_template_kwargs=OFF)
    plain = prompt_tokens(chat.invoke("hi"))
    assert prompt_tokens(quiet.invoke("hi")) == plain + ADDED
    assert prompt_tokens(chat.invoke("hi", chat_template_kwargs=OFF)) == plain + ADDED
    assert prompt_tokens(quiet.invoke("hi", chat_template_kwargs={"enable_thinking": True})) == plain
    assert quiet.get_num_tokens_from_messages([HumanMessage("hi")]) == plain + ADDED
    streamed = [chunk for chunk in quiet.stream("hi") if chunk.usage_metadata]
    assert [prompt_tokens(chunk) for chunk in streamed] == [plain + ADDED]


def test_they_are_part_of_the_key_of_caches(thinker):
    cache = InMemoryCache()
    chat = tiny_chat(decoder=thinker, n=2, cache=cache)
    quiet = tiny_chat(decoder=thinker, n=2, cache=cache, chat_template_kwargs=OFF)
    asked = [chat.invoke("hi"), quiet.invoke("hi"), chat.invoke("hi", chat_template_kwargs=OFF)]
    plain = prompt_tokens(asked[0])
    assert [prompt_tokens(answer) for answer in asked] == [plain, plain + ADDED, plain + ADDED]


@pytest.mark.parametrize(
    "name", ["messages", "tools", "add_generation_prompt", "tokenize", "return_tensors", "eos_token"]
)
def test_what_is_not_the_callers_to_set_is_refused(thinker, name):
    with pytest.raises(ConfigurationError, match=f"'{name}' of the chat template is set by what is asked"):
        tiny_chat(decoder=thinker, chat_template_kwargs={name: 1}).invoke("hi")
    with pytest.raises(ConfigurationError, match=name):
        encode_prompt(thinker.loaded.tokenizer, "hi", chat_template_kwargs={name: 1})


def test_what_would_have_no_effect_is_refused(thinker):
    with pytest.raises(ConfigurationError, match="reads no variable 'enable_thinkin'"):
        tiny_chat(decoder=thinker).invoke("hi", chat_template_kwargs={"enable_thinkin": False})
    with pytest.raises(ConfigurationError, match="chat_template_kwargs='off' is no dict"):
        tiny_chat(decoder=thinker).invoke("hi", chat_template_kwargs="off")
    with pytest.raises(ConfigurationError, match="chat_template_kwargs"):
        NADChatModel(chat_template_kwargs="off")
    with pytest.raises(ConfigurationError, match="no parameter 'chat_template_kwargs'"):
        NADLLM(chat_template_kwargs=OFF)
