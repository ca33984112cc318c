"""The model as LlamaIndex's engines use it: answers, streams, what it says of itself, what it counts."""

import json
import pickle
from itertools import pairwise
from pathlib import Path

import pytest
from llama_index.core.base.llms.base import BaseLLM
from llama_index.core.callbacks import CallbackManager, CBEventType, LlamaDebugHandler, TokenCountingHandler
from llama_index.core.constants import DEFAULT_CONTEXT_WINDOW
from llama_index.core.llms import ChatMessage
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.prompts import PromptTemplate
from llama_index.llms.nad import NADLLM

from nad_agents import ConfigurationError, LoadedModel, NeuronAgreementDecoder, PromptError
from nad_agents.testing import AcceptingVerifier, byte_tokenizer
from tests.tiny_models import save_model, tiny_model
from tests.unit.langchain.chats import tiny_decoder
from tests.unit.llama_index.models import tiny_llm

HELLO = [ChatMessage("hello")]


def base_decoder():
    """Without a chat template."""
    return NeuronAgreementDecoder(
        LoadedModel(tiny_model(), byte_tokenizer(chat_template=None), "base", "folder", Path())
    )


def test_class():
    assert issubclass(NADLLM, BaseLLM)
    assert issubclass(NADLLM, FunctionCallingLLM)
    assert NADLLM.class_name() == "NADLLM"


class TestAnswers:
    def test_chat_and_complete(self):
        llm = tiny_llm()
        chat = llm.chat(HELLO)
        assert chat.message.role == "assistant"
        assert chat.message.content
        # one user message for a chat model
        completion = llm.complete("hello")
        assert completion.text == chat.message.content

    def test_the_stream_grows_to_the_same_answer(self):
        llm = tiny_llm(pruning="first_chunk")
        whole = llm.chat(HELLO)
        pieces = list(llm.stream_chat(HELLO))
        assert len(pieces) > 5
        assert "".join(piece.delta for piece in pieces) == whole.message.content
        grown = [piece.message.content for piece in pieces]
        assert all(later.startswith(earlier) for earlier, later in pairwise(grown))
        assert [piece.raw is None for piece in pieces] == [True] * (len(pieces) - 1) + [False]
        assert pieces[-1].raw["usage"] == whole.raw["usage"]
        completions = list(llm.stream_complete("hello"))
        assert "".join(piece.delta for piece in completions) == completions[-1].text == whole.message.content

    def test_variables_of_the_chat_template(self):
        tokenizer = byte_tokenizer()
        tokenizer.chat_template += "{% if enable_thinking is defined %}[thinks: {{ enable_thinking }}]{% endif %}"
        decoder, off = tiny_decoder(tokenizer=tokenizer), {"chat_template_kwargs": {"enable_thinking": False}}
        llm, quiet = tiny_llm(decoder=decoder, n=2), tiny_llm(decoder=decoder, n=2, **off)
        plain, added = llm.chat(HELLO).raw["usage"]["prompt_tokens"], len("[thinks: False]")
        asked = [llm.chat(HELLO, **off), quiet.chat(HELLO), quiet.complete("hello"), *quiet.stream_chat(HELLO)]
        assert {answer.raw["usage"]["prompt_tokens"] for answer in asked if answer.raw} == {plain + added}
        assert quiet.complete("hello", formatted=True).raw["usage"]["prompt_tokens"] == len("hello")
        with pytest.raises(ConfigurationError, match="chat_template_kwargs go with a chat"):
            llm.complete("hello", formatted=True, **off)

    def test_formatted_text_is_continued_as_it_is(self):
        llm = tiny_llm()
        usage = llm.complete("hello", formatted=True).raw["usage"]
        assert usage["prompt_tokens"] == len("hello")
        assert llm.complete("hello").raw["usage"]["prompt_tokens"] > len("hello")

    def test_the_decoders_own_verifier_judges_text_as_well(self):
        verifier = AcceptingVerifier()
        llm = tiny_llm(decoder=tiny_decoder(verifier=verifier))
        for formatted in (True, False):
            assert llm.complete("hello", formatted=formatted).text in [call.answer for call in verifier.calls]

    def test_a_base_model(self):
        llm = tiny_llm(decoder=base_decoder())
        assert llm.complete("hello").raw["usage"]["prompt_tokens"] == len("hello")
        with pytest.raises(PromptError, match="no chat template"):
            llm.chat(HELLO)
        llm = tiny_llm(decoder=base_decoder(), is_chat_model=False, completion_to_prompt=lambda text: f"<{text}>")
        assert llm.complete("hello").raw["usage"]["prompt_tokens"] == len("<hello>")
        assert llm.predict(PromptTemplate("Say {what}"), what="hi")
        assert not llm.metadata.is_chat_model
        assert not llm.metadata.is_function_calling_model

    def test_parameters_of_one_call(self):
        llm = tiny_llm()
        answer = llm.chat(HELLO, n=2, seed=9, max_tokens=5, include_candidates=True)
        assert answer.raw["nad"]["n"] == 2
        assert answer.raw["nad"]["seed"] == 9
        assert max(c["tokens"] for c in answer.raw["nad"]["candidates"]) <= 5
        assert answer.message.content == llm.chat(HELLO, n=2, seed=9, max_tokens=5).message.content

    def test_predict_and_the_system_prompt(self):
        llm = tiny_llm(system_prompt="Be brief.")
        counter = TokenCountingHandler(tokenizer=list)
        llm.callback_manager = CallbackManager([counter])
        assert llm.predict(PromptTemplate("Say {what}"), what="hi")
        assert counter.prompt_llm_token_count == len("[system]Be brief.\n[user]Say hi\n[assistant]")


class TestCounting:
    def test_the_evidence_and_the_usage(self):
        answer = tiny_llm().chat(HELLO)
        evidence, usage = answer.raw["nad"], answer.raw["usage"]
        assert evidence["n"] == 4
        assert evidence["ranking"][0] == evidence["winner"]
        assert usage["prompt_tokens"] == len("[user]hello\n[assistant]")
        assert usage["completion_tokens"] == evidence["tokens_generated"]
        assert 0 < usage["completion_tokens_details"]["winner"] < usage["completion_tokens"]
        json.dumps(answer.raw)

    @pytest.mark.parametrize("ask", ["chat", "stream_chat", "complete", "stream_complete"])
    def test_the_token_counter_counts_each_call_once(self, ask):
        counter, debug = TokenCountingHandler(tokenizer=list), LlamaDebugHandler(print_trace_on_end=False)
        llm = tiny_llm(callback_manager=CallbackManager([counter, debug]))
        answer = getattr(llm, ask)(HELLO if "chat" in ask else "hello")
        last = list(answer)[-1] if "stream" in ask else answer
        assert counter.prompt_llm_token_count == last.raw["usage"]["prompt_tokens"]
        assert counter.completion_llm_token_count == last.raw["usage"]["completion_tokens"]
        assert len(debug.get_event_pairs(CBEventType.LLM)) == 1


class TestWhatItSaysOfItself:
    def test_metadata(self):
        metadata = tiny_llm(max_tokens=40).metadata
        assert metadata.context_window == 512
        assert metadata.num_output == 40
        assert metadata.model_name == "tiny"
        assert metadata.is_chat_model
        assert metadata.is_function_calling_model
        assert tiny_llm(context_window=300).metadata.context_window == 300

    def test_the_context_is_read_from_the_config_without_weights(self, tmp_path):
        save_model(tiny_model(), tmp_path)
        for weights in tmp_path.glob("*.safetensors"):
            weights.write_bytes(b"no weights")
        llm = NADLLM(model=tmp_path)
        assert llm.to_payload()["context_window"] == DEFAULT_CONTEXT_WINDOW
        assert llm.metadata.context_window == 512
        assert llm.to_payload()["context_window"] == 512

    async def test_nothing_is_read_in_an_event_loop(self):
        assert NADLLM(model="no/such-model").metadata.context_window == DEFAULT_CONTEXT_WINDOW

    def test_parameters_are_checked(self):
        with pytest.raises(ConfigurationError, match="did you mean 'temperature'"):
            NADLLM(temperatur=1)
        with pytest.raises(ConfigurationError, match="identical candidates"):
            NADLLM(temperature=0, n=4)
        with pytest.raises(ConfigurationError, match="selector"):
            tiny_llm().chat(HELLO, selector="nonsense")
        with pytest.raises(ConfigurationError, match="no parameter 'top_q'"):
            tiny_llm().complete("hello", top_q=1)
        with pytest.raises(ConfigurationError, match="go with a chat"):
            tiny_llm().complete("hello", formatted=True, response_format={"type": "json_object"})

    def test_it_travels_as_its_parameters(self):
        llm = NADLLM(model="some/model", n=4, temperature=0.3, stop=["END"])
        for again in (
            pickle.loads(pickle.dumps(llm)),
            NADLLM.from_dict(llm.to_dict()),
            NADLLM.from_json(llm.to_json()),
        ):
            assert again.identity() == llm.identity()
        with pytest.raises(ConfigurationError, match="another process"):
            pickle.dumps(tiny_llm())
