"""A request: its candidates' random streams, and its waves."""

import numpy as np
import pytest

from nad_agents.engine.base import GenerationRequest
from nad_agents.exceptions import ConfigurationError
from nad_agents.types import SamplingConfig


def request(seed=0, n=4, **options):
    return GenerationRequest([1, 2], SamplingConfig(n=n, seed=seed), **options)


def test_streams_belong_to_seed_prompt_and_candidate():
    seeds = [
        value
        for seed in range(8)
        for prompt_index in range(8)
        for value in request(seed, prompt_index=prompt_index).candidate_seeds().values()
    ]
    assert len(set(seeds)) == len(seeds) == 8 * 8 * 4
    assert all(0 <= value < 2**63 for value in seeds)
    expected = np.random.SeedSequence([3, 1, 2]).generate_state(1, np.uint64)[0]
    assert request(3, prompt_index=1).candidate_seeds()[2] == int(expected) // 2


def test_waves_have_the_candidates_of_the_whole():
    whole = request(5, n=7, prompt_index=2, chunk_size=8)
    waves = whole.split(3)
    assert [list(wave.candidates) for wave in waves] == [[0, 1, 2], [3, 4, 5], [6]]
    assert {c: s for wave in waves for c, s in wave.candidate_seeds().items()} == whole.candidate_seeds()
    assert {(wave.prompt_index, wave.chunk_size, wave.seed) for wave in waves} == {(2, 8, 5)}


def test_a_request_without_a_seed_is_refused():
    with pytest.raises(ConfigurationError, match="seed"):
        request(seed=None)
