"""The estimate that a chosen answer is right, and what follows from a low one."""

import numpy as np
import pytest

from nad_agents import LowConfidenceError, NADConfig
from nad_agents.confidence import agreeing_share, estimate_confidence
from nad_agents.selectors import Scores
from tests.unit.decoders import NEURONS, decoder
from tests.unit.verifiers import Passes

ALIKE, SPLIT = np.zeros((8, 3), dtype=np.int64), np.arange(8)[:, None] * np.ones((1, 3), dtype=np.int64)


def test_the_share_counts_the_others_on_each_question_and_a_failure_agrees_with_nobody():
    votes = np.array([[0, 0], [0, 1], [0, -1], [1, -1]])
    assert agreeing_share(votes, 0) == pytest.approx(((2 + 0.5) / 4 + 0.5 / 4) / 2)
    assert agreeing_share(votes, 3) == pytest.approx(0.5 / 4)


@pytest.mark.parametrize("selector", ["behaviour", "majority"])
def test_more_agreement_is_more_confidence_and_a_passed_check_more_yet(selector):
    low, high = (estimate_confidence(selector, votes, 0) for votes in (SPLIT, ALIKE))
    assert 0 < low < 0.5 < high < 1
    assert estimate_confidence("behaviour", ALIKE, 0, passed=True) > estimate_confidence("behaviour", ALIKE, 0)
    assert estimate_confidence(selector, ALIKE, 0, passed=False) == 0.05


def test_nothing_is_said_where_nothing_is_known():
    assert estimate_confidence("nad_fusion", None, 0) is None
    assert estimate_confidence("codet", ALIKE, 0) is None
    assert estimate_confidence("behaviour", np.zeros((3, 0), dtype=np.int64), 0) is None
    assert 0.8 < estimate_confidence("nad_fusion", None, 0, passed=True) < 0.95


def all_alike(group):
    n = len(group)
    return Scores(np.arange(n, dtype=float), selector="majority", votes=np.zeros((n, 1), dtype=np.int64))


def test_a_selection_says_how_likely_it_is_right():
    certain = decoder().decode("hello", config=NADConfig(selector=all_alike, min_confidence=0.5, **NEURONS))
    assert certain.confidence == estimate_confidence("majority", np.zeros((5, 1), dtype=np.int64), 4)
    assert certain.low_confidence is False
    unknown = decoder().decode("hello", config=NADConfig(selector="knn", **NEURONS))
    assert (unknown.confidence, unknown.low_confidence) == (None, None)
    checked = decoder(verifier=Passes("nothing")).decode("hello")
    assert checked.confidence == 0.05


def test_a_pass_without_any_test_counts_for_nothing():
    class Loads(Passes):
        def verify(self, answer, *, prompt=""):
            verdict = super().verify(self.right, prompt=prompt)
            verdict.tested = False
            return verdict

    config = NADConfig(selector=all_alike, **NEURONS)
    loads = decoder(verifier=Loads()).decode("hello", config=config)
    assert loads.verified
    assert loads.confidence == decoder().decode("hello", config=config).confidence


def test_a_low_one_is_marked_or_refused():
    marked = decoder().decode("hello", config=NADConfig(selector="knn", min_confidence=0.5, **NEURONS))
    assert marked.low_confidence is True
    config = NADConfig(selector="knn", min_confidence=0.5, on_low_confidence="error", **NEURONS)
    with pytest.raises(LowConfidenceError, match=r"cannot be estimated, and min_confidence=0.5"):
        decoder().decode("hello", config=config)
    high = config.model_copy(update={"selector": all_alike, "min_confidence": 0.999})
    with pytest.raises(LowConfidenceError, match=r"is about 0\.\d\d") as caught:
        decoder().decode("hello", config=high)
    assert 0.9 < caught.value.confidence < 0.999
