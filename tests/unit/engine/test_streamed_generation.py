"""Candidates that vLLM advances at their own pace, seen as if all of them went in step."""

import numpy as np

from nad_agents.engine.answer_text import AnswerText
from nad_agents.engine.base import GenerationRequest
from nad_agents.engine.streamed_generation import StreamedGeneration
from nad_agents.neurons.recording_config import RecordingConfig
from nad_agents.rollouts import NeuronLayout
from nad_agents.types import SamplingConfig
from tests.tiny_models import byte_tokenizer


def recorded(tokens, start=0):
    neurons = np.arange(start, start + tokens, dtype=np.int32).repeat(2)
    return {"tokens": tokens, "neurons": neurons.tobytes(), "signals": np.ones((tokens, 3), np.float32).tobytes()}


def make(n=2, **options):
    """A generation whose workers have recorded whatever vLLM has generated."""

    def take(generation, candidates):
        taken.append(sorted(candidates))
        for candidate in candidates:
            state = generation.candidates[candidate]
            state.add_recorded(recorded(len(state.token_ids) - state.taken, state.taken))

    taken = []
    request = GenerationRequest([5, 6], SamplingConfig(n=n, seed=1, **options), RecordingConfig(), chunk_size=4)
    generation = StreamedGeneration(request, NeuronLayout(1, 100), AnswerText(byte_tokenizer(), [5, 6]), take)
    return generation, taken


def grow(generation, candidate, tokens, reason="running"):
    start = len(generation.candidates[candidate].token_ids)
    generation.receive(candidate, [40 + start + i for i in range(tokens)], [-1.0] * tokens, reason)


def test_the_slowest_candidate_says_how_many_tokens_there_are():
    generation, _ = make()
    grow(generation, 0, 6)
    assert generation.ready == 0
    grow(generation, 1, 3)
    generation.advance(4)
    assert (generation.tokens, generation.live, generation.generated) == (3, [0, 1], 6)
    assert generation.token_ids(0) == [40, 41, 42]


def test_nothing_goes_beyond_what_was_asked_for():
    generation, taken = make()
    for candidate in (0, 1):
        grow(generation, candidate, 9)
    generation.advance(4)
    group = generation.group()
    assert [len(rollout) for rollout in group.rollouts] == [4, 4]
    assert [rollout.neurons[:, 0].tolist() for rollout in group.rollouts] == [[0, 1, 2, 3]] * 2
    generation.advance(4)
    generation.group()
    # what was taken with the first four is not asked for again
    assert taken == [[0, 1], []]


def test_a_candidate_that_has_finished_early_is_live_until_its_end_is_shown():
    generation, _ = make()
    grow(generation, 0, 6, "stop")
    grow(generation, 1, 20)
    generation.advance(4)
    assert generation.live == [0, 1]
    generation.advance(4)
    assert generation.live == [1]
    assert generation.finish_reason(0) == "stop"
    assert [len(r) for r in generation.group().rollouts] == [6, 8]


def test_all_finished_candidates_are_shown_chunk_by_chunk():
    generation, _ = make()
    grow(generation, 0, 3, "stop")
    grow(generation, 1, 10, "length")
    assert generation.all_finished
    ends = []
    while generation.live:
        generation.advance(4)
        ends.append((generation.tokens, list(generation.live)))
    assert ends == [(4, [1]), (8, [1]), (10, [])]


def test_pruned_candidates_keep_what_was_shown_and_no_more():
    generation, _ = make(n=3)
    for candidate in range(3):
        grow(generation, candidate, 7)
    grow(generation, 2, 0, "stop")
    generation.advance(4)
    aborted = generation.prune([1, 2])
    assert aborted == [generation.candidates[1]]
    assert [generation.finish_reason(i) for i in range(3)] == ["running", "pruned", "pruned"]
    grow(generation, 1, 1)
    assert [len(r) for r in generation.group().rollouts] == [4, 4, 4]


def test_a_candidate_without_tokens_has_empty_arrays():
    generation, _ = make()
    rollouts = generation.group().rollouts
    assert [(len(r), r.entropies.shape, r.finish_reason) for r in rollouts] == [(0, (0,), "running")] * 2
