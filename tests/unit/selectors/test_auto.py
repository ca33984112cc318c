"""Which selector `auto` chooses, and that the selection names it."""

import pytest

from nad_agents.exceptions import ConfigurationError
from nad_agents.neurons.comparison import ComparisonConfig
from nad_agents.ranking import rank_rollouts
from nad_agents.selection import check_configuration
from nad_agents.selectors import Auto, Behaviour, Majority, NADFusion, get_selector, rank
from nad_agents.types import NADConfig, SamplingConfig
from tests.unit.builders import WordObserver, make_group, make_rollout

CODE = "Here it is:\n```python\ndef f(x):\n    return x\n```"


def of_texts(*texts):
    return make_group([make_rollout([[i]], tokens=[i], text=text) for i, text in enumerate(texts)])


@pytest.mark.parametrize(
    ("texts", "runner", "chosen"),
    [
        ((CODE, CODE, "no"), True, "behaviour"),
        ((CODE, "class A:\n    pass", "no"), True, "behaviour"),
        ((CODE, CODE, "no"), False, "nad_fusion"),
        ((CODE, "no", "no"), True, "nad_fusion"),
        ((r"so \boxed{4}", r"\boxed{5}", "no"), True, "majority"),
        (("#### 4", "The answer is **(B)**.", "no"), False, "majority"),
        (("I have 4 apples", "or 5", "or 6"), True, "nad_fusion"),
        (("", "", ""), True, "nad_fusion"),
        # one candidate cannot be compared
        ((CODE,), True, "nad_fusion"),
        # an answer that is stated in a program's comment is no answer
        ((CODE + "\nThe answer is 4", CODE + "\nThe answer is 4"), False, "nad_fusion"),
    ],
)
def test_the_answers_decide(texts, runner, chosen):
    group = of_texts(*texts)
    scores = get_selector("auto", runner=WordObserver() if runner else None).score(group)
    assert scores.selector == chosen
    kinds = {
        "behaviour": Behaviour(runner=WordObserver()),
        "nad_fusion": NADFusion(),
        "majority": Majority("stated", weighted=True),
    }
    assert rank(scores, group) == rank(kinds[chosen].score(group), group)
    ranked = rank_rollouts(group, Auto(runner=WordObserver() if runner else None), ComparisonConfig(), None)
    assert ranked.selector == chosen


def test_it_is_the_default_and_goes_with_one_candidate_and_early_stopping_and_without_neurons():
    check_configuration(SamplingConfig(n=1), NADConfig())
    check_configuration(SamplingConfig(n=4), NADConfig(record=False))
    check_configuration(SamplingConfig(n=4), NADConfig(pruning="first_chunk"))
    assert NADConfig().selector == "auto"


def test_the_papers_method_is_a_preset():
    assert NADConfig.paper() == NADConfig(selector="knn", similarity="jaccard", pruning="never")
    assert NADConfig.paper(early_stopping=True) == NADConfig(selector="knn", pruning="first_chunk", keep=1)


def test_a_runner_that_runs_nothing_is_refused():
    with pytest.raises(ConfigurationError, match=r"runner=3 has no method observe"):
        Auto(runner=3)
