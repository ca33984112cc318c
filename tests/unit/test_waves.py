"""Sampling that stops as soon as there are enough candidates."""

import threading

import pytest

from nad_agents import GenerationCancelledError, NADConfig, SamplingConfig
from nad_agents.exceptions import ConfigurationError, VerificationError
from tests.unit.decoders import NEURONS, decoder
from tests.unit.verifiers import Passes

SAMPLING = SamplingConfig(n=6, max_new_tokens=20, temperature=1.0, top_k=0, top_p=1.0, seed=3)
UNTIL_PASSED = NADConfig(until="passed", **NEURONS)


def texts_of(selection):
    return [candidate.text for candidate in selection.candidates]


def whole():
    return decoder(sampling=SAMPLING).decode("hello")


def test_sampling_stops_with_the_wave_in_which_one_passes():
    everything = whole()
    verifier = Passes(everything.candidates[3].text)
    freed = []
    selection = decoder(sampling=SAMPLING, config=UNTIL_PASSED, verifier=verifier).decode(
        "hello", on_rows_freed=freed.append
    )
    # the candidates are those of one batch of six, as far as they go: two waves of two
    assert texts_of(selection) == texts_of(everything)[:4]
    assert (selection.winner, selection.verified) == (3, True)
    mean = sum(c.tokens for c in selection.candidates) // 4
    assert selection.usage.generated_tokens == sum(c.tokens for c in selection.candidates)
    assert abs(selection.usage.saved_tokens - 2 * mean) <= 2
    assert freed[-1] == 0
    # what was judged between the waves is not judged again
    assert len(verifier.asked) == len({answer for answer, _ in verifier.asked})


def test_several_that_pass_must_agree():
    class All(Passes):
        def verify(self, answer, *, prompt=""):
            return super().verify(self.right, prompt=prompt)

    config = NADConfig(until="passed", passes=2, **NEURONS)
    selection = decoder(sampling=SAMPLING, config=config, verifier=All()).decode("hello")
    assert len(selection.candidates) == SAMPLING.n  # texts of a random model are all different
    selection = decoder(sampling=SAMPLING, config=UNTIL_PASSED, verifier=All()).decode("hello")
    assert len(selection.candidates) == 2


def test_if_none_passes_all_are_generated():
    everything = whole()
    selection = decoder(sampling=SAMPLING, config=UNTIL_PASSED, verifier=Passes("nothing")).decode("hello")
    assert texts_of(selection) == texts_of(everything)
    assert (selection.verified, selection.usage.saved_tokens) == (False, 0)
    assert selection.ranking == everything.ranking


def test_sampling_stops_when_the_leader_is_decided():
    def alike(group):
        import numpy as np

        from nad_agents.selectors import Scores

        return Scores(np.arange(len(group), dtype=float), votes=np.zeros((len(group), 1), dtype=np.int64))

    config = NADConfig(selector=alike, until="decided", decided_at=0.9, **NEURONS)
    decided = decoder(sampling=SAMPLING, config=config).decode("hello")
    assert len(decided.candidates) == 4
    every = decoder(sampling=SAMPLING, config=NADConfig(until="decided", **NEURONS)).decode("hello")
    assert len(every.candidates) == 6  # texts of a random model are all different
    small = SAMPLING.model_copy(update={"wave": 3})
    assert len(decoder(sampling=small, config=config).decode("hello").candidates) == 3


def test_several_prompts_and_streams():
    nad = decoder(sampling=SAMPLING, config=UNTIL_PASSED, verifier=Passes("nothing"))
    first, second = nad.decode_many(["hello", "there"])
    assert len(first.candidates) == len(second.candidates) == 6
    events = list(nad.stream("hello"))
    assert texts_of(events[-1].selection) == texts_of(first)


def test_an_error_of_the_verifier_and_a_cancelled_request_reach_who_waits():
    class Broken(Passes):
        def verify(self, answer, *, prompt=""):
            raise OSError("no sandbox")

    with pytest.raises(VerificationError, match="no sandbox"):
        decoder(sampling=SAMPLING, config=UNTIL_PASSED, verifier=Broken()).decode("hello")

    asked, go_on = threading.Event(), threading.Event()

    class Slow(Passes):
        def verify(self, answer, *, prompt=""):
            asked.set()
            go_on.wait(10)
            return super().verify(answer, prompt=prompt)

    (pending,) = decoder(sampling=SAMPLING, config=UNTIL_PASSED, verifier=Slow("nothing")).submit(["hello"])
    assert asked.wait(20)
    pending.cancel()
    go_on.set()
    with pytest.raises(GenerationCancelledError):
        pending.result()


def test_what_cannot_work_is_said_before_anything_is_generated():
    nad = decoder(sampling=SAMPLING)
    with pytest.raises(ConfigurationError, match="until='passed' needs to know what passes"):
        nad.submit(["hello"], config=UNTIL_PASSED)
    with pytest.raises(ConfigurationError, match="watched side by side"):
        nad.submit(["hello"], config=NADConfig(until="decided", **NEURONS), watch=True)
    with pytest.raises(ConfigurationError, match="only 4 grow at a time"):
        nad.submit(["hello"], config=NADConfig(until="decided", pruning="first_chunk", **NEURONS))
    with pytest.raises(ConfigurationError, match="decided_at"):
        NADConfig(decided_at=0.3)
