"""Activated neurons as bytes: every array comes back, and is small."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nad_agents.runs.neuron_codec import decode_neurons, encode_neurons


@st.composite
def recorded_neurons(draw):
    """Rows of distinct neurons, some padded at the end."""
    k = draw(st.integers(1, 300))
    n = draw(st.integers(k, 2000))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    rows = np.array([rng.permutation(n)[:k] for _ in range(draw(st.integers(0, 12)))], dtype=np.int32).reshape(-1, k)
    if draw(st.booleans()):
        rows[np.arange(k) >= rng.integers(0, k + 1, size=(len(rows), 1))] = -1
    return rows


@given(recorded_neurons() | hnp.arrays(np.int32, hnp.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=9)))
@settings(deadline=None)
def test_the_codec_gives_back_every_array(neurons):
    back = decode_neurons(encode_neurons(neurons))
    assert back.dtype == np.int32
    assert back.shape == neurons.shape
    np.testing.assert_array_equal(back, neurons)


def test_a_large_number_takes_no_memory_for_all_smaller_ones():
    neurons = np.array([[2**24, 5], [7, 2**31 - 1]], dtype=np.int32)
    tracemalloc.start()
    try:
        back = decode_neurons(encode_neurons(neurons))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(back, neurons)
    assert peak < 2**24


@pytest.mark.parametrize("padding", [(1,), (2, 0), (0, 3, 0)])
def test_lengths_of_padded_rows_are_not_taken_for_neurons(padding):
    """The lengths take two bytes a row, as one neuron does: as much padding as rows must not look like full rows."""
    k = 4
    rows = np.array([[*range(10 * i, 10 * i + k - n), *[-1] * n] for i, n in enumerate(padding)], dtype=np.int32)
    np.testing.assert_array_equal(decode_neurons(encode_neurons(rows)), rows)


def test_the_codec_is_smaller_than_two_bytes_a_neuron():
    """500 of 30 000 neurons a token, some used much more often than others, no token like another."""
    rng = np.random.default_rng(0)
    likely = np.log(np.arange(1, 30_001)) * -1.2
    # the largest of log-weight + Gumbel noise: a weighted draw without replacement
    scores = rng.permutation(likely) + rng.gumbel(size=(200, 30_000))
    rows = np.argsort(-scores, axis=1)[:, :500].astype(np.int32)
    data = encode_neurons(rows)
    np.testing.assert_array_equal(decode_neurons(data), rows)
    assert len(data) / len(rows) < 500 * 2
