from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nad_agents.exceptions import ConfigurationError
from nad_agents.neurons.activated_sets import (
    activated_sets,
    chunk_sets,
    compared_neurons,
    compared_tokens,
    neuron_counts,
    novelty,
    similarity_matrix,
    subgroup,
    unique_counts,
)
from nad_agents.neurons.comparison import ComparisonConfig
from nad_agents.neurons.similarity import intersection_sizes, jaccard_matrix
from nad_agents.rollouts import NeuronLayout
from nad_agents.types import NADConfig
from tests.unit.builders import LAYOUT, group_of_sets, groups, make_group, make_rollout, permuted

ALL = ComparisonConfig()
SIMILARITIES = ("jaccard", "weighted_jaccard", "weighted_jaccard_rates", "cosine")


def brute_force(group, comparison):
    """The definitions, written out on Python sets and dictionaries."""
    counts, tokens = [], []
    for i in range(len(group)):
        neurons = compared_neurons(group, i, comparison)
        table = {}
        for row in neurons.tolist():
            for neuron in row:
                if neuron >= 0:
                    table[neuron] = table.get(neuron, 0) + 1
        counts.append(table)
        tokens.append(max(len(neurons), 1))
    n = len(group)
    result = np.ones((n, n))
    for i in range(n):
        for j in range(n):
            a, b = counts[i], counts[j]
            if not a or not b:
                result[i, j] = float(not a and not b)
                continue
            keys = a.keys() | b.keys()
            if comparison.similarity == "jaccard":
                result[i, j] = len(a.keys() & b.keys()) / len(keys)
                continue
            rates = comparison.similarity != "weighted_jaccard"
            x = np.array([a.get(k, 0) / (tokens[i] if rates else 1) for k in keys])
            y = np.array([b.get(k, 0) / (tokens[j] if rates else 1) for k in keys])
            if comparison.similarity == "cosine":
                result[i, j] = x @ y / np.sqrt((x @ x) * (y @ y))
            else:
                result[i, j] = np.minimum(x, y).sum() / np.maximum(x, y).sum()
    return result


def two_candidates():
    return make_group(
        [
            make_rollout([[5, 3, 1], [5, 4, -1], [90, 5, 2]]),  # counts: 1:1 2:1 3:1 4:1 5:3 90:1
            make_rollout([[5, 1, 0]]),  # counts: 0:1 1:1 5:1
        ]
    )


def test_counts_and_sets_leave_padding_out():
    (ids, counts), (other, _) = neuron_counts(two_candidates(), ALL)
    assert ids.tolist() == [1, 2, 3, 4, 5, 90]
    assert counts.tolist() == [1, 1, 1, 1, 3, 1]
    assert ids.dtype == counts.dtype == np.int32
    assert other.tolist() == [0, 1, 5]
    assert unique_counts(two_candidates(), ALL).tolist() == [6, 3]


def test_similarities_by_hand():
    # union {0, 1, 2, 3, 4, 5, 90} = 7 neurons, shared {1, 5}
    # weighted: minima 1 + 1 = 2; maxima 8 + 3 - 2 = 9
    # rates of the first are a third: minima 1/3 + 1 = 4/3; maxima 8/3 + 3 - 4/3 = 13/3
    # cosine: (1 * 1 + 3 * 1) / sqrt(5 * 1 + 9) / sqrt(3)
    expected = {
        "jaccard": 2 / 7,
        "weighted_jaccard": 2 / 9,
        "weighted_jaccard_rates": 4 / 13,
        "cosine": 4 / np.sqrt(14 * 3),
    }
    for similarity, value in expected.items():
        matrix = similarity_matrix(two_candidates(), ComparisonConfig(similarity=similarity))
        assert matrix[0, 1] == pytest.approx(value, abs=1e-12)
        assert matrix.diagonal().tolist() == [1, 1]


def test_top_k_takes_the_first_columns():
    assert [s.tolist() for s in activated_sets(two_candidates(), ComparisonConfig(top_k_neurons=1))] == [[5, 90], [5]]
    everything = activated_sets(two_candidates(), ComparisonConfig(top_k_neurons=500))
    assert [len(s) for s in everything] == [6, 3]


def test_window_of_tokens():
    group = make_group([make_rollout([[i] for i in range(n)]) for n in (7, 4, 2, 0)])

    def sets(**options):
        return [s.tolist() for s in activated_sets(group, ComparisonConfig(**options))]

    assert sets(chunk_size=3, compare_chunks=1) == [[0, 1, 2], [0, 1, 2], [0, 1], []]
    assert sets(skip_tokens=2) == [[2, 3, 4, 5, 6], [2, 3], [], []]
    # the candidates of 2 and of 0 tokens have nothing left after 2 tokens, so the one of 4 is the shortest
    assert sets(skip_tokens=2, common_prefix=True) == [[2, 3], [2, 3], [], []]
    assert sets(common_prefix=True) == [[0, 1], [0, 1], [0, 1], []]
    assert sets(common_prefix=True, chunk_size=1, compare_chunks=1, skip_tokens=0) == [[0], [0], [0], []]
    assert compared_tokens(group, ComparisonConfig(skip_tokens=3)).tolist() == [4, 1, 0, 0]


def test_chunks_keep_their_place_when_tokens_are_skipped():
    group = make_group([make_rollout([[i] for i in range(7)])])
    assert [s.tolist() for s in chunk_sets(group, 0, ComparisonConfig(chunk_size=3))] == [[0, 1, 2], [3, 4, 5], [6]]
    # token 4 is the second of chunk 1
    chunks = chunk_sets(group, 0, ComparisonConfig(chunk_size=3, skip_tokens=4))
    assert [s.tolist() for s in chunks] == [[4, 5], [6]]
    exact = chunk_sets(group, 0, ComparisonConfig(chunk_size=7))
    assert [s.tolist() for s in exact] == [list(range(7))]
    assert chunk_sets(make_group([make_rollout([])]), 0, ALL) == []


def test_layers_are_numbered_as_in_the_model():
    layout = NeuronLayout(n_layers=4, d_ff=25, first_layer=8)
    group = make_group([make_rollout([[0, 24, 25, 60, 99]])], layout=layout)
    assert activated_sets(group, ComparisonConfig(layers=(9, 11)))[0].tolist() == [25, 60]
    assert activated_sets(group, ComparisonConfig(layers=(0, 9)))[0].tolist() == [0, 24]
    assert activated_sets(group, ComparisonConfig(layers=(0, 8)))[0].tolist() == []


def test_novelty_counts_what_each_token_adds():
    group = make_group([make_rollout([[1, 2, 3], [1, 4, -1], [2, 3, 4], [9, 8, 7]]), make_rollout([])])
    assert novelty(group, 0, ALL).tolist() == [3, 1, 0, 3]
    assert novelty(group, 0, ComparisonConfig(skip_tokens=1)).tolist() == [2, 2, 3]
    assert novelty(group, 1, ALL).tolist() == []


def test_empty_candidates():
    group = make_group([make_rollout([]), make_rollout([[1, 2]]), make_rollout([])])
    for similarity in SIMILARITIES:
        matrix = similarity_matrix(group, ComparisonConfig(similarity=similarity))
        assert matrix.tolist() == [[1, 0, 1], [0, 1, 0], [1, 0, 1]]
    assert similarity_matrix(make_group([]), ALL).shape == (0, 0)


def test_nothing_recorded_is_an_error_that_says_what_to_do():
    group = make_group([make_rollout([[], []])])
    with pytest.raises(ConfigurationError, match=r"candidate 0 has 2 tokens .* set record=True"):
        similarity_matrix(group, ALL)


@pytest.mark.parametrize("neuron", [LAYOUT.n_neurons, -2])
def test_neurons_outside_the_layout_are_refused(neuron):
    with pytest.raises(ConfigurationError, match="layout numbers 0 to 99"):
        activated_sets(group_of_sets([neuron, 1]), ALL)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"similarity": "dice"}, "similarity='dice' is unknown; choose one of jaccard"),
        ({"top_k_neurons": 0}, "top_k_neurons=0 must be a whole number of at least 1"),
        ({"chunk_size": None}, "chunk_size=None"),
        ({"compare_chunks": True}, "compare_chunks=True"),
        ({"skip_tokens": -1}, "skip_tokens=-1"),
        ({"layers": (4, 4)}, r"layers=\(4, 4\) must be"),
        (
            {"compare_chunks": 2, "chunk_size": 8, "skip_tokens": 16},
            "skip_tokens=16 leaves nothing of the 16 compared tokens",
        ),
    ],
)
def test_impossible_comparisons(options, message):
    with pytest.raises(ConfigurationError, match=message):
        ComparisonConfig(**options)


def test_comparison_from_config():
    config = NADConfig(
        similarity="cosine", top_k_neurons=7, chunk_size=4, compare_chunks=3, skip_tokens=2, common_prefix=True
    )
    assert ComparisonConfig.from_config(config) == ComparisonConfig("cosine", 7, 4, 3, 2, common_prefix=True)


def test_results_are_kept_by_what_determines_them():
    group = two_candidates()
    first = similarity_matrix(group, ALL)
    # without a limit on chunks their size changes nothing
    assert similarity_matrix(group, ComparisonConfig(chunk_size=8)) is first
    assert similarity_matrix(group, ComparisonConfig(top_k_neurons=1)) is not first
    assert activated_sets(group, ALL)[0] is activated_sets(group, ComparisonConfig(similarity="cosine"))[0]
    with pytest.raises(ValueError, match="read-only"):
        first[0, 1] = 0


@settings(deadline=None, max_examples=40)
@given(groups(), st.sampled_from(SIMILARITIES), st.booleans(), st.sampled_from([None, 2]), st.randoms())
def test_similarity_matches_the_definition(group, similarity, prefix, top_k, random):
    comparison = ComparisonConfig(similarity=similarity, common_prefix=prefix, top_k_neurons=top_k)
    matrix = similarity_matrix(group, comparison)
    np.testing.assert_allclose(matrix, brute_force(group, comparison), atol=1e-12)
    assert np.array_equal(matrix, matrix.T)
    assert (matrix.diagonal() == 1).all()
    assert ((matrix >= 0) & (matrix <= 1)).all()
    order = list(range(len(group)))
    random.shuffle(order)
    # to the last bit: ties must stay ties
    assert np.array_equal(similarity_matrix(permuted(group, order), comparison), matrix[np.ix_(order, order)])


@pytest.mark.parametrize("n", [1, 2, 3, 16, 17, 33, 64, 65, 200])
@pytest.mark.parametrize("n_neurons", [1, 9, 64, 65, 1000, 4099])
def test_intersections_of_any_number_of_sets_and_neurons(n, n_neurons):
    rng = np.random.default_rng(n * n_neurons)
    dense = rng.random((n, n_neurons)) < rng.random(n_neurons) ** 2
    dense[:, 0] = True  # in all of them
    dense[-1, -1] = True
    sets = [np.flatnonzero(row).astype(np.int32) for row in dense]
    expected = dense.astype(np.int64) @ dense.T.astype(np.int64)
    assert np.array_equal(intersection_sizes(sets, n_neurons), expected)


def test_many_equal_or_empty_sets():
    same = [np.array([1, 3], dtype=np.int32)] * 130
    assert (jaccard_matrix(same, 5) == 1).all()
    none = [np.empty(0, dtype=np.int32)] * 130
    assert (jaccard_matrix(none, 5) == 1).all()


def test_a_subgroup_has_what_the_whole_group_has():
    group = group_of_sets([1, 2, 3], [2, 3, 4], [3, 4, 5], [9])
    part = subgroup(group, [2, 0], ALL)
    alone = group_of_sets([3, 4, 5], [1, 2, 3])
    assert [rollout.index for rollout in part.rollouts] == [2, 0]
    assert np.array_equal(similarity_matrix(part, ALL), similarity_matrix(alone, ALL))
    assert neuron_counts(part, ALL)[0] is neuron_counts(group, ALL)[2], "nothing is counted again"
    with pytest.raises(ValueError, match="depends on the others"):
        subgroup(group, [0], ComparisonConfig(common_prefix=True))


def test_comparing_sets_leaves_the_process_with_all_of_its_floats():
    sets = [np.array([0, 2], dtype=np.int32), np.array([2, 3], dtype=np.int32)]
    assert intersection_sizes(sets, 8).tolist() == [[2, 1], [1, 2]]
    # a library of vector instructions may let the processor round the smallest numbers to 0, for everybody
    assert float(np.float64(5e-324) * 1.0) > 0
    assert np.float32(1e-38) * np.float32(0.01) > 0
