"""Activated sets: which neurons a candidate used, how often, and how similar two candidates are.

An activated set is the union of the activated neurons of a candidate's tokens (arXiv 2510.26277, section 3).
A `ComparisonConfig` says what is compared.
Results are cached on the group under a key of the options that determine them, so that selectors share one matrix.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nad_agents.exceptions import ConfigurationError
from nad_agents.neurons.comparison import ComparisonConfig
from nad_agents.neurons.similarity import cosine_matrix, jaccard_matrix, weighted_jaccard_matrix
from nad_agents.rollouts import RolloutGroup

__all__ = [
    "activated_sets",
    "chunk_sets",
    "compared_neurons",
    "compared_tokens",
    "compared_window",
    "neuron_counts",
    "novelty",
    "similarity_matrix",
    "subgroup",
    "unique_counts",
]


_COUNTED_PER_ACTIVATION = 8
"""Largest ratio of neurons to a candidate's activations at which a dense array counts them; above it, sorting does."""


def compared_window(group: RolloutGroup, index: int, comparison: ComparisonConfig) -> slice:
    """Return which of a candidate's tokens are compared, as a slice of its token axis; the slice may be empty.

    Args:
        group: The candidates of one prompt.
        index: The candidate.
        comparison: Which tokens are compared.
    """
    length = len(group.rollouts[index])
    stop = length if comparison.token_limit is None else min(length, comparison.token_limit)
    if comparison.common_prefix:
        # a candidate with nothing to compare must not empty the others' windows
        lengths = [len(r) for r in group.rollouts if len(r) > comparison.skip_tokens]
        stop = min([stop, *lengths])
    return slice(min(comparison.skip_tokens, stop), stop)


def compared_tokens(group: RolloutGroup, comparison: ComparisonConfig) -> NDArray[np.int64]:
    """Return how many tokens of each candidate are compared, int64 [N].

    Args:
        group: The candidates of one prompt.
        comparison: Which tokens are compared.
    """
    windows = (compared_window(group, i, comparison) for i in range(len(group)))
    return np.array([w.stop - w.start for w in windows], dtype=np.int64)


def compared_neurons(group: RolloutGroup, index: int, comparison: ComparisonConfig) -> NDArray[np.int32]:
    """Return the activated neurons of a candidate's compared tokens.

    Args:
        group: The candidates of one prompt.
        index: The candidate.
        comparison: Which tokens, how many neurons per token and which layers are compared.

    Returns:
        int32 [t, k'], with -1 for padding and for neurons in layers outside ``comparison.layers``.

    Raises:
        ConfigurationError: The candidate has tokens but no recorded neurons, or an id is outside the layout.
    """
    rollout = group.rollouts[index]
    if len(rollout) and rollout.neurons.shape[1] == 0:
        msg = (
            f"candidate {index} has {len(rollout)} tokens but no activated neurons, as the recorder was off; "
            "set record=True, or choose a selector that needs none, such as mean_logprob"
        )
        raise ConfigurationError(msg)
    layout = group.layout
    neurons = rollout.neurons[compared_window(group, index, comparison), : comparison.top_k_neurons]
    if neurons.size and (neurons.max() >= layout.n_neurons or neurons.min() < -1):
        msg = (
            f"candidate {index} has neurons from {neurons.min()} to {neurons.max()}, but the layout numbers "
            f"0 to {layout.n_neurons - 1} (-1 is padding); group and layout come from different models"
        )
        raise ConfigurationError(msg)
    if comparison.layers is None:
        return neurons
    first, end = ((layer - layout.first_layer) * layout.d_ff for layer in comparison.layers)
    return np.where((neurons >= first) & (neurons < end), neurons, np.int32(-1))


def neuron_counts(
    group: RolloutGroup, comparison: ComparisonConfig
) -> list[tuple[NDArray[np.int32], NDArray[np.int32]]]:
    """Return each candidate's activated neurons and the number of its tokens that activated each of them.

    Args:
        group: The candidates of one prompt.
        comparison: Which tokens, how many neurons per token and which layers are compared.

    Returns:
        For each candidate a pair of read-only int32 arrays of equal length: sorted unique ids, and counts.

    Raises:
        ConfigurationError: See `compared_neurons`.
    """

    def build() -> list[tuple[NDArray[np.int32], NDArray[np.int32]]]:
        result = []
        for index in range(len(group)):
            neurons = compared_neurons(group, index, comparison)
            if group.layout.n_neurons > _COUNTED_PER_ACTIVATION * neurons.size:
                # a mixture of experts has many more neurons than the candidate has activations
                ids, dense = np.unique(neurons[neurons >= 0], return_counts=True)
                counts = dense.astype(np.int32)
            else:
                # ids are shifted by one, so that padding is counted in slot 0, which is dropped
                dense = np.bincount(neurons.ravel() + 1, minlength=group.layout.n_neurons + 1)[1:]
                ids = np.flatnonzero(dense).astype(np.int32)
                counts = dense[ids].astype(np.int32)
            ids.setflags(write=False)
            counts.setflags(write=False)
            result.append((ids, counts))
        return result

    return group.cached(comparison.counts_key, build)


def activated_sets(group: RolloutGroup, comparison: ComparisonConfig) -> list[NDArray[np.int32]]:
    """Return the activated set of each candidate, the union over its compared tokens, as sorted unique int32 ids.

    Args:
        group: The candidates of one prompt.
        comparison: Which tokens, how many neurons per token and which layers are compared.

    Raises:
        ConfigurationError: See `compared_neurons`.
    """
    return [ids for ids, _ in neuron_counts(group, comparison)]


def unique_counts(group: RolloutGroup, comparison: ComparisonConfig) -> NDArray[np.int64]:
    """Return the number of unique activated neurons of each candidate, int64 [N].

    Args:
        group: The candidates of one prompt.
        comparison: Which tokens, how many neurons per token and which layers are compared.

    Raises:
        ConfigurationError: See `compared_neurons`.
    """
    return np.array([len(ids) for ids in activated_sets(group, comparison)], dtype=np.int64)


def chunk_sets(group: RolloutGroup, index: int, comparison: ComparisonConfig) -> list[NDArray[np.int32]]:
    """Return the activated set of each chunk of a candidate, as sorted unique int32 ids.

    Chunk c holds the tokens c * chunk_size to (c + 1) * chunk_size of the answer, without those outside the compared
    window; a chunk entirely outside the window is left out.

    Args:
        group: The candidates of one prompt.
        index: The candidate.
        comparison: Which tokens, how many neurons per token and which layers are compared, and the size of a chunk.

    Raises:
        ConfigurationError: See `compared_neurons`.
    """
    neurons = compared_neurons(group, index, comparison)
    start = compared_window(group, index, comparison).start
    # the first chunk is shorter if the skipped tokens end within it
    first = comparison.chunk_size - start % comparison.chunk_size
    sets = []
    for part in np.split(neurons, range(first, len(neurons), comparison.chunk_size)):
        if len(part):
            ids = np.unique(part)
            sets.append(ids[ids >= 0])
    return sets


def novelty(group: RolloutGroup, index: int, comparison: ComparisonConfig) -> NDArray[np.int64]:
    """Return how many neurons each compared token adds to the candidate's activated set, int64 [t].

    Args:
        group: The candidates of one prompt.
        index: The candidate.
        comparison: Which tokens, how many neurons per token and which layers are compared.

    Raises:
        ConfigurationError: See `compared_neurons`.
    """
    neurons = compared_neurons(group, index, comparison)
    flat = neurons.ravel()
    present = np.flatnonzero(flat >= 0)
    # np.unique returns the first occurrence, here in token order
    _, first = np.unique(flat[present], return_index=True)
    tokens = present[first] // max(neurons.shape[1], 1)
    return np.bincount(tokens, minlength=len(neurons)).astype(np.int64)


def similarity_matrix(group: RolloutGroup, comparison: ComparisonConfig) -> NDArray[np.float64]:
    """Return the similarity of each pair of candidates.

    ``jaccard`` is |A and B| / |A or B| of the activated sets. ``weighted_jaccard`` is the sum of minima over the sum of
    maxima of the neurons' counts, a count being the number of tokens that activated the neuron;
    ``weighted_jaccard_rates`` divides the counts by the candidate's number of compared tokens first. ``cosine`` is the
    cosine of the counts. Two empty candidates have similarity 1, an empty and a non-empty one 0.

    Args:
        group: The candidates of one prompt.
        comparison: Which tokens, how many neurons per token and which layers are compared, and by which similarity.

    Returns:
        float64 [N, N], read-only: symmetric, within [0, 1], with ones on the diagonal.

    Raises:
        ConfigurationError: See `compared_neurons`.
    """

    def build() -> NDArray[np.float64]:
        counts = neuron_counts(group, comparison)
        n_neurons = group.layout.n_neurons
        if comparison.similarity == "jaccard":
            matrix = jaccard_matrix([ids for ids, _ in counts], n_neurons)
        elif comparison.similarity == "cosine":
            matrix = cosine_matrix(counts, n_neurons)
        else:
            scales: Sequence[float] = np.ones(len(group)).tolist()
            if comparison.similarity == "weighted_jaccard_rates":
                scales = (1.0 / np.maximum(compared_tokens(group, comparison), 1)).tolist()
            matrix = weighted_jaccard_matrix(counts, n_neurons, scales)
        matrix.setflags(write=False)
        return matrix

    return group.cached(comparison.similarity_key, build)


def subgroup(group: RolloutGroup, members: Sequence[int], comparison: ComparisonConfig) -> RolloutGroup:
    """Make a group of some of the candidates that takes over their neuron counts and similarities.

    Args:
        group: All candidates.
        members: Positions in the group of the new group's members, in their new order.
        comparison: Options for which counts and similarities are taken over; they are computed first if necessary.

    Raises:
        ValueError: The comparison has a common prefix, whose length depends on the candidates that are left out.
        ConfigurationError: See `compared_neurons`.
    """
    if comparison.common_prefix:
        msg = "with common_prefix, what is compared of a candidate depends on the others; compare whole candidates"
        raise ValueError(msg)
    part = RolloutGroup([group.rollouts[i] for i in members], group.layout, group.prompt)
    counts, similarity = neuron_counts(group, comparison), similarity_matrix(group, comparison)
    part.cached(comparison.counts_key, lambda: [counts[i] for i in members])
    part.cached(comparison.similarity_key, lambda: similarity[np.ix_(members, members)])
    return part
