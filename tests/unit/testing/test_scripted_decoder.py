"""A scripted decoder behaves to its callers as the real one does, and says what the script says."""

import inspect
import json
from typing import get_args, get_type_hints

import httpx
import pytest
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langchain_nad import NADChatModel
from llama_index.llms.nad import NADLLM
from nad_server import create_app
from pydantic import BaseModel

from nad_agents import (
    ConfigurationError,
    Finished,
    GenerationCancelledError,
    GenerationError,
    NADConfig,
    NeuronAgreementDecoder,
    NoCandidatePassedError,
    Progress,
    PromptError,
    Ranking,
    SamplingConfig,
    TextDelta,
    VerificationConfig,
    VerificationError,
    Verified,
    WinnerChosen,
)
from nad_agents.exceptions import GenerationTimeoutError
from nad_agents.testing import AcceptingVerifier, ScriptedAnswer, ScriptedDecoder, tiny_model

FOUR = ScriptedAnswer(["4", "five", "4 or 5"], ranking=[2, 0, 1], scores=[0.5, 0.1, 0.9])


def kinds(events):
    return [type(event) for event in events]


class TestAnswers:
    def test_the_selection_is_the_scripts(self):
        script = ScriptedAnswer(
            ["4", "five"], ranking=[1, 0], similarity=[[1, 0.25], [0.25, 1]], details={"groups": [[0], [1]]}
        )
        found = ScriptedDecoder(script).decode("What is 2 + 2?")
        assert (found.text, found.winner, found.ranking) == ("five", 1, (1, 0))
        assert [c.text for c in found.candidates] == ["4", "five"]
        assert [c.rank for c in found.candidates] == [1, 0]
        assert [c.agreement for c in found.candidates] == [0.25, 0.25]
        assert found.candidates[1].score > found.candidates[0].score
        assert found.similarity_matrix == ((1, 0.25), (0.25, 1))
        assert found.details == {"groups": [[0], [1]]}
        assert found.verified is None
        # a token per byte, and the end token
        assert (found.usage.generated_tokens, found.usage.winner_tokens) == (2 + 5, 5)

    def test_scores_rank_where_no_ranking_is_given(self):
        assert ScriptedDecoder(ScriptedAnswer(["a", "b", "c"], scores=[1, 3, 3])).decode("x").ranking == (1, 2, 0)

    def test_answers_come_in_turn_and_the_last_one_stays(self):
        decoder = ScriptedDecoder("one", lambda request: request.text.upper(), "three")
        assert [found.text for found in decoder.decode_many(["a", "b", "c", "d"])] == ["one", "B", "three", "three"]
        assert [request.text for request in decoder.requests] == ["a", "b", "c", "d"]

    def test_a_text_stands_for_all_candidates(self):
        decoder = ScriptedDecoder("yes")
        assert [c.text for c in decoder.decode("x", sampling=SamplingConfig(n=3)).candidates] == ["yes"] * 3
        assert [r.text for r in decoder.sample("x", sampling=SamplingConfig(n=2)).rollouts] == ["yes"] * 2

    def test_another_number_of_candidates_is_refused(self):
        with pytest.raises(ConfigurationError, match="3 candidates for 'x', and the request asks for n=2"):
            ScriptedDecoder(FOUR).decode("x", sampling=SamplingConfig(n=2))

    @pytest.mark.parametrize(
        ("script", "message"),
        [
            ({"candidates": []}, "at least one candidate"),
            ({"candidates": "text"}, "at least one candidate"),
            ({"candidates": ["a", "b"], "ranking": [0, 0]}, "name each of the candidates 0 to 1 once"),
            ({"candidates": ["a", "b"], "scores": [1]}, "one score for each of the 2 candidates"),
            ({"candidates": ["a", "b"], "similarity": [[1, 0]]}, "2 rows of 2 values"),
        ],
    )
    def test_a_script_that_does_not_fit_itself_is_refused(self, script, message):
        with pytest.raises(ConfigurationError, match=message):
            ScriptedAnswer(**script)

    def test_a_decoder_without_answers_is_refused(self):
        with pytest.raises(ConfigurationError, match="at least one answer"):
            ScriptedDecoder()


class TestErrors:
    @pytest.mark.parametrize("error", [GenerationError("out of memory"), GenerationTimeoutError(2.0)])
    async def test_an_error_is_the_result(self, error):
        decoder = ScriptedDecoder(error)
        pending = decoder.submit(["x"])[0]
        for failing in (pending.result, pending.outcome, lambda: list(decoder.stream("x"))):
            with pytest.raises(type(error)) as caught:
                failing()
            assert caught.value is error
        with pytest.raises(type(error)):
            await decoder.adecode("x")

    @pytest.mark.parametrize("error", [PromptError("too long"), ConfigurationError("n is wrong")])
    def test_what_is_refused_is_not_even_queued(self, error):
        with pytest.raises(type(error)):
            ScriptedDecoder(error).submit(["x"])

    def test_prompts_and_configurations_are_really_checked(self):
        decoder = ScriptedDecoder("x")
        with pytest.raises(PromptError, match="empty"):
            decoder.decode(" ")
        with pytest.raises(ConfigurationError, match="medoid"):
            decoder.decode("x", config=NADConfig(selector="medoit"))

    async def test_a_cancelled_request_has_no_result(self):
        pending = ScriptedDecoder("x").submit(["x"])[0]
        pending.cancel()
        with pytest.raises(GenerationCancelledError):
            pending.result()
        with pytest.raises(GenerationCancelledError):
            await pending.aresult()

    def test_a_request_can_be_cancelled_in_the_middle_of_its_stream(self):
        events = (pending := ScriptedDecoder("x").submit(["x"], streaming=True)[0]).events()
        assert isinstance(next(events), Progress)
        pending.cancel()
        with pytest.raises(GenerationCancelledError):
            list(events)


class TestVerifier:
    def test_the_ranking_is_walked(self):
        verifier = AcceptingVerifier("4", feedback="not four")
        found = ScriptedDecoder(FOUR, verifier=verifier).decode("2 + 2?")
        assert (found.text, found.verified, found.ranking) == ("4", True, (2, 0, 1))
        assert found.candidates[2].verdict == {"passed": False, "feedback": "not four"}
        assert ("4", "2 + 2?") in verifier.calls

    def test_functions_accept_too(self):
        verifier = AcceptingVerifier(lambda answer: "or" in answer)
        assert ScriptedDecoder(FOUR, verifier=verifier).decode("x").text == "4 or 5"

    def test_none_passes(self):
        strict = VerificationConfig(on_failure="error")
        with pytest.raises(NoCandidatePassedError, match="none of 3"):
            ScriptedDecoder(FOUR, verifier=AcceptingVerifier(), verification=strict).decode("x")

    def test_a_verifier_may_be_broken(self):
        def broken(answer):
            raise OSError("no engine")

        with pytest.raises(VerificationError, match="no engine"):
            ScriptedDecoder(FOUR, verifier=AcceptingVerifier(broken)).decode("x")

    def test_a_call_may_ask_for_no_verifier(self):
        found = ScriptedDecoder(FOUR, verifier=AcceptingVerifier("4")).decode("x", verifier=None)
        assert (found.text, found.verified) == ("4 or 5", None)

    def test_nothing_is_checked_after_a_cancellation(self):
        def accepts(answer):
            pending.cancel()
            return False

        verifier = AcceptingVerifier(accepts)
        one_by_one = VerificationConfig(parallel=1)
        pending = ScriptedDecoder(FOUR).submit(["x"], verifier=verifier, verification=one_by_one)[0]
        with pytest.raises(GenerationCancelledError):
            pending.result()
        assert len(verifier.calls) == 1


class TestEvents:
    """The order of the events is that of the real decoder."""

    async def events(self, config=None, **options):
        sampling = SamplingConfig(n=3, max_new_tokens=12, seed=1)
        real = NeuronAgreementDecoder(tiny_model(num_hidden_layers=1), sampling=sampling)
        found = []
        for decoder in (real, ScriptedDecoder(FOUR, sampling=sampling)):
            events = list(decoder.stream("x", config=config, **options))
            assert kinds(events) == kinds([event async for event in decoder.astream("x", config=config, **options)])
            found.append(events)
        return found

    @staticmethod
    def distinct(events):
        """Kinds of events, each once for a stretch of them."""
        found = kinds(events)
        return [kind for i, kind in enumerate(found) if found[i - 1 : i] != [kind]]

    async def test_a_selection_without_pruning(self):
        real, scripted = await self.events()
        assert self.distinct(scripted) == self.distinct(real) == [Progress, WinnerChosen, TextDelta, Finished]
        assert scripted[-1].selection.text == "4 or 5"

    async def test_a_watched_one_with_a_verifier(self):
        record_nothing = NADConfig(selector="mean_logprob", record=False)
        real, scripted = await self.events(record_nothing, watch=True, verifier=AcceptingVerifier())
        expected = [Progress, Ranking, Verified, WinnerChosen, TextDelta, Finished]
        assert self.distinct(scripted) == self.distinct(real) == expected
        assert kinds(scripted).count(Verified) == kinds(real).count(Verified) == 3
        assert {growth.candidate: growth.text for growth in scripted[0].growth} == dict(enumerate(FOUR.candidates))

    async def test_a_winner_that_is_known_early_grows(self):
        _, scripted = await self.events(NADConfig(pruning="first_chunk", chunk_size=4))
        assert [event.text for event in scripted if isinstance(event, TextDelta)] == ["4", " or", " 5"]

    def test_callbacks_hear_of_the_end(self):
        progress, rows = [], []
        ScriptedDecoder(FOUR).submit(["x"], on_progress=progress.append, on_rows_freed=rows.append)[0].result()
        assert [(event.live, event.generated) for event in progress] == [((), 2 + 5 + 7)]
        assert rows == [0]


@pytest.mark.parametrize("method", ["submit", "decode", "decode_many", "sample", "adecode", "stream", "astream"])
def test_every_keyword_of_the_real_decoder_is_taken(method):
    real = inspect.signature(getattr(NeuronAgreementDecoder, method)).parameters
    scripted = inspect.signature(getattr(ScriptedDecoder, method)).parameters
    taken = set(scripted)
    if "options" in scripted:
        taken |= set(get_args(get_type_hints(getattr(ScriptedDecoder, method))["options"])[0].__annotations__)
    assert not set(real) - taken


class Person(BaseModel):
    """A person."""

    name: str
    age: int


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


class TestFrontEnds:
    def test_langchain(self):
        chat = NADChatModel(decoder=ScriptedDecoder(FOUR, "and so on"))
        message = chat.invoke("What is 2 + 2?")
        assert message.content == "4 or 5"
        assert message.response_metadata["nad"]["ranking"] == [2, 0, 1]
        assert "".join(chunk.content for chunk in chat.stream("What is 2 + 2?")) == "and so on"

    def test_a_failed_generation_is_tried_again(self):
        chat = NADChatModel(decoder=ScriptedDecoder(GenerationError("busy"), "there"), max_retries=1)
        assert chat.invoke("hello").content == "there"

    def test_tools_and_objects(self):
        call = json.dumps({"name": "add", "arguments": {"a": 2, "b": 2}})
        decoder = ScriptedDecoder(call, call, '{"name": "Ada", "age": 36}')
        chat = NADChatModel(decoder=decoder)
        for choice in (None, "any"):
            message = chat.bind_tools([add], tool_choice=choice).invoke("What is 2 + 2?")
            assert isinstance(message, AIMessage)
            assert [(c["name"], c["args"]) for c in message.tool_calls] == [("add", {"a": 2, "b": 2})]
            assert decoder.requests[-1].prompt[-1] == {"role": "user", "content": "What is 2 + 2?"}
        assert chat.with_structured_output(Person).invoke("Ada?") == Person(name="Ada", age=36)

    async def test_llama_index(self):
        llm = NADLLM(decoder=ScriptedDecoder(FOUR))
        assert llm.complete("What is 2 + 2?").text == "4 or 5"
        assert (await llm.acomplete("What is 2 + 2?")).text == "4 or 5"
        assert llm.metadata.model_name == "scripted"

    async def test_the_server(self):
        app = create_app(ScriptedDecoder(FOUR), verifier=AcceptingVerifier("five"))
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            asked = {"model": "scripted", "messages": [{"role": "user", "content": "2 + 2?"}], "n": 2, "logprobs": True}
            answer = (await client.post("/v1/chat/completions", json=asked)).json()
        assert [choice["message"]["content"] for choice in answer["choices"]] == ["five", "4 or 5"]
        assert answer["nad"]["verification"]["passed"] is True
