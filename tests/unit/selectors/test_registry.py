"""Selectors by name, by class, as functions, and from installed packages."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint

import numpy as np
import pytest

from nad_agents.exceptions import ConfigurationError, UnknownSelectorError
from nad_agents.neurons.comparison import ComparisonConfig
from nad_agents.selectors import (
    KNN,
    CallableSelector,
    MeanLogprob,
    Scores,
    Selector,
    available_selectors,
    check_candidates,
    check_recorder,
    get_selector,
    register_selector,
    registry,
)
from tests.unit.builders import group_of_sets, make_by_name

PACKAGE = """
from dataclasses import dataclass
import numpy as np
from nad_agents.selectors import Scores

@dataclass(frozen=True)
class Longest:
    comparison: object = None
    bonus: float = 0.0
    name = "longest"
    needs_neurons = False
    min_candidates = 1

    def score(self, group):
        return Scores(np.array([len(r) + self.bonus for r in group.rollouts], dtype=float))
"""


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))


@pytest.fixture
def installed_package(tmp_path, monkeypatch):
    """A distribution as pip would leave it, with one selector that works and one that does not."""
    (tmp_path / "longest_selector.py").write_text(PACKAGE)
    info = tmp_path / "longest_selector-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: longest-selector\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[nad_agents.selectors]\nlongest = longest_selector:Longest\nbroken = longest_selector:Absent\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("longest_selector", None)


@pytest.mark.parametrize("name", available_selectors())
def test_every_name_makes_a_selector_of_that_name(name):
    selector = make_by_name(name)
    assert isinstance(selector, Selector)
    assert selector.name == name
    assert selector.min_candidates in {1, 2}


def test_the_methods_of_the_paper_and_their_baselines_are_there():
    agreement = {"knn", "medoid", "dbscan", "consensus_min", "copeland", "nad_fusion"}
    sparsity = {"min_act", "min_act_per_token", "min_act_residual", "nex"}
    others = {"mean_logprob", "entropy", "self_certainty", "deepconf", "tail_entropy", "shortest", "majority"}
    assert agreement | sparsity | others | {"behaviour", "random", "first"} <= set(available_selectors())
    assert {n for n in available_selectors() if make_by_name(n).needs_neurons} >= agreement | sparsity
    assert not any(make_by_name(n).needs_neurons for n in others | {"random", "first"})


def test_options_and_comparison_reach_the_selector():
    compared = ComparisonConfig(top_k_neurons=5)
    assert get_selector("knn", k=1, comparison=compared) == KNN(1, comparison=compared)
    assert get_selector(KNN, k=1) == KNN(1)
    overridden = get_selector("knn", comparison=compared, similarity="cosine")
    assert overridden == KNN(comparison=ComparisonConfig("cosine", top_k_neurons=5))


def test_unknown_name_names_the_nearest_and_lists_all():
    with pytest.raises(UnknownSelectorError, match=r"no selector is named 'medoit'; did you mean 'medoid'\?") as caught:
        get_selector("medoit")
    assert ", ".join(available_selectors()) in str(caught.value)
    assert isinstance(caught.value, LookupError | ValueError)
    with pytest.raises(UnknownSelectorError, match="did you mean 'min_act'"):
        get_selector("Min-Act")
    with pytest.raises(UnknownSelectorError, match="'zzzz'; available: auto, b4, behaviour"):
        get_selector("zzzz")


def test_unknown_option_names_the_valid_ones():
    with pytest.raises(
        ConfigurationError, match="'dbscan' has no option 'k'; its options are eps_percentile, min_samples;"
    ):
        get_selector("dbscan", k=3)
    with pytest.raises(
        ConfigurationError, match="'first' has no option 'k'; it has no options of its own; any selector"
    ):
        get_selector("first", k=3)
    with pytest.raises(ConfigurationError, match="similarity='dice' is unknown"):
        get_selector("knn", similarity="dice")


def test_a_selector_is_returned_as_it_is():
    selector = KNN(2)
    assert get_selector(selector) is selector
    with pytest.raises(ConfigurationError, match="knn is a selector already and takes no options; got k"):
        get_selector(selector, k=3)
    with pytest.raises(ConfigurationError, match="selector=7 is neither a name"):
        get_selector(7)


def test_own_function():
    def by_length(group):
        return [len(r) for r in group.rollouts]

    selector = get_selector(by_length)
    assert (selector.name, selector.needs_neurons, selector.min_candidates) == ("by_length", False, 1)
    values = selector.score(group_of_sets([0], [1])).values
    assert values.dtype == np.float64
    assert values.tolist() == [1, 1]
    by_length.needs_neurons = True
    assert get_selector(by_length).needs_neurons
    own = get_selector(lambda group: Scores(np.zeros(2), details={"a": 1}))
    assert own.score(group_of_sets([0], [1])).details == {"a": 1}


@pytest.mark.parametrize("result", [[1.0], [[1.0, 2.0]], 3.0, ["a", "b"], None, {"a": 1}])
def test_own_function_must_return_one_number_per_candidate(result):
    selector = CallableSelector.wrap(lambda group: result)
    with pytest.raises(ConfigurationError, match=r"<lambda> returned .* for 2 candidates; it must return one number"):
        selector.score(group_of_sets([0], [1]))


def test_registering():
    register_selector("mine", KNN)
    assert "mine" in available_selectors()
    assert get_selector("mine", k=2) == KNN(2)
    with pytest.raises(ConfigurationError, match="'mine' is registered already"):
        register_selector("mine", MeanLogprob)
    register_selector("mine", MeanLogprob, replace=True)
    assert isinstance(get_selector("mine"), MeanLogprob)
    with pytest.raises(ConfigurationError, match="blank"):
        register_selector(" ", KNN)


def test_a_factory_that_takes_anything_gets_its_own_options():
    seen = {}

    def factory(*, comparison, **options):
        seen.update(options, similarity=comparison.similarity)
        return KNN()

    register_selector("open", factory)
    get_selector("open", alpha=1, similarity="cosine")
    assert seen == {"alpha": 1, "similarity": "cosine"}


def test_installed_packages_bring_selectors(installed_package):
    assert {"longest", "broken"} <= set(available_selectors())
    assert "longest_selector" not in sys.modules  # listing imports nothing
    selector = get_selector("longest", bonus=1.0)
    assert selector.score(group_of_sets([0], [1])).values.tolist() == [2, 2]
    with pytest.raises(ConfigurationError, match="'longest' has no option 'k'; its options are bonus"):
        get_selector("longest", k=3)


def test_a_broken_package_is_named(installed_package):
    with pytest.raises(
        ConfigurationError, match=r"'broken' of longest-selector could not be imported \(longest_selector:Absent"
    ):
        get_selector("broken")


def test_own_names_win_over_installed_ones(monkeypatch):
    entry = EntryPoint("knn", "no_such_module:Thing", registry.ENTRY_POINT_GROUP)
    monkeypatch.setattr(registry, "_installed", lambda: {"knn": entry})
    assert isinstance(get_selector("knn"), KNN)


def test_too_few_candidates_is_known_before_anything_is_generated():
    check_candidates(get_selector("knn"), 2)
    check_candidates(get_selector("mean_logprob"), 1)
    with pytest.raises(
        ConfigurationError, match=r"'knn' compares at least 2 candidates, but n=1; raise n .* mean_logprob"
    ):
        check_candidates(get_selector("knn"), 1)


def test_recorder_off_is_known_before_anything_is_generated():
    check_recorder(get_selector("knn"), record=True)
    check_recorder(get_selector("entropy"), record=False)
    with pytest.raises(ConfigurationError, match=r"'min_act' compares activated neurons, but the recorder is off"):
        check_recorder(get_selector("min_act"), record=False)
