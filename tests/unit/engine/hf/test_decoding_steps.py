"""Reading only every few steps who has ended changes nothing but how often the host waits for the device."""

from itertools import pairwise

import pytest
import torch
from transformers import DynamicCache, LogitsProcessor

from nad_agents import NADConfig, NeuronAgreementDecoder, testing
from nad_agents.engine.hf.engine import HFEngine
from nad_agents.engine.hf.prefix import batch
from nad_agents.engine.hf.sampling import CandidateStreams
from nad_agents.events import TextDelta, WinnerChosen
from nad_agents.models import LoadedModel
from nad_agents.neurons.recording_config import RecordingConfig
from nad_agents.types import SamplingConfig
from tests.family_checks import CACHES, FREE, assert_same_group, assert_steps_between_reads_change_nothing
from tests.generations import ids, run, seeded
from tests.step_trace import StepTrace
from tests.tiny_models import byte_tokenizer, make_model

RECORDING = RecordingConfig(top_k_neurons=12, top_k_neurons_per_layer=8)
OFTEN = tuple("aeiostz")
"""Stop strings that random text soon has."""


def engine(model, steps_per_read):
    return HFEngine(model, byte_tokenizer(), steps_per_read=steps_per_read)


@pytest.mark.parametrize("family", CACHES)
def test_the_candidates_are_the_same(family):
    assert_steps_between_reads_change_nothing(family)


def test_candidates_end_within_the_steps_that_are_read_together():
    requests = [
        seeded(ids("x"), SamplingConfig(n=40, max_new_tokens=64, **FREE, stop=OFTEN), 3, RECORDING),
        seeded(ids("y"), SamplingConfig(n=2, max_new_tokens=61, **FREE), 8),
    ]
    model = make_model("llama", seed=5)
    every, few = run(engine(model, 1), *requests), run(engine(model, 7), *requests)
    lengths = {len(rollout) % 7 for rollout in few[0].rollouts if rollout.finish_reason == "stop"}
    assert len(lengths) > 3
    for one, other in zip(every, few, strict=True):
        assert_same_group(one, other)


@pytest.mark.parametrize("options", [{}, {"repetition_penalty": 1.3}, {"generation_options": {"min_new_tokens": 9}}])
def test_top_k_on_a_vocabulary_that_is_wider_than_what_is_looked_at(options):
    model = testing.tiny_model("llama", tokenizer=byte_tokenizer(), vocab_size=3000).model
    request = seeded(ids("x"), SamplingConfig(n=8, max_new_tokens=20, temperature=0.7, **options), 3)
    (every,), (few,) = run(engine(model, 1), request), run(engine(model, 4), request)
    assert_same_group(every, few)
    assert len({tuple(rollout.token_ids) for rollout in every.rollouts}) > 1


def test_the_tokens_of_a_generation_are_those_of_its_longest_candidate():
    model = make_model("llama", seed=5)
    request = seeded(ids("x"), SamplingConfig(n=3, max_new_tokens=400, **FREE, stop=OFTEN), 3, RECORDING)
    for steps_per_read in (1, 4):
        one = engine(model, steps_per_read)
        generation = one.start(request)
        while generation.live:
            one.step(32)
        assert generation.tokens == max(len(rollout) for rollout in generation.group().rollouts) < 400
        one.release(generation)


class FailsLater(LogitsProcessor):
    """Fails for sequences that are longer than `length`."""

    def __init__(self, length):
        self.length = length

    def __call__(self, input_ids, scores):
        if input_ids.shape[1] > self.length:
            raise ZeroDivisionError("too long")
        return scores


def test_a_processor_that_fails_after_every_candidate_has_ended_fails_nothing():
    model = make_model("llama", seed=5)
    sampling = SamplingConfig(n=1, max_new_tokens=400, **FREE, stop=OFTEN)
    (expected,) = run(engine(model, 1), seeded(ids("x"), sampling, 3))
    length = len(expected.rollouts[0])
    assert expected.rollouts[0].finish_reason == "stop"
    # a read is due at a multiple of this, and the candidate ends before it
    steps_per_read = next(k for k in range(3, 9) if length % k and length % k < k - 1)
    processors = [FailsLater(len(ids("x")) + length)]
    (few,) = run(engine(model, steps_per_read), seeded(ids("x"), sampling, 3, logits_processors=processors))
    assert_same_group(expected, few)
    failing = engine(model, steps_per_read)
    generation = failing.start(seeded(ids("x"), sampling, 3, logits_processors=[FailsLater(length - 1)]))
    while generation.live and generation.error is None:
        failing.step(32)
    assert isinstance(generation.error, ZeroDivisionError)


def decoder(model, steps_per_read):
    made = NeuronAgreementDecoder(
        LoadedModel(model, testing.byte_tokenizer(), "tiny", "folder", None),
        sampling=SamplingConfig(n=6, max_new_tokens=50, seed=2, **FREE),
        config=NADConfig(pruning="first_chunk", chunk_size=10, selector="knn"),
    )
    made.engine._steps_per_read = steps_per_read
    return made


def test_pruning_and_streaming_are_the_same():
    model = make_model("llama", seed=4)
    found = []
    for steps_per_read in (1, 4):
        made = decoder(model, steps_per_read)
        selection = made.decode("hello")
        events = list(made.stream("hello"))
        made.close()
        assert [c.finish_reason for c in selection.candidates].count("pruned") == 5
        texts = [event.text for event in events if isinstance(event, TextDelta)]
        winners = [event.winner for event in events if isinstance(event, WinnerChosen)]
        found.append((selection.text, selection.ranking, [c.text for c in selection.candidates], texts, winners))
    assert found[0] == found[1]
    assert len(found[0][3]) > 5


def waits(steps_per_read, *requests, steps=8):
    """Synchronisations of a step, without those that every call of `step` makes once."""
    model = testing.tiny_model("llama", tokenizer=byte_tokenizer(), vocab_size=3000).model
    one = engine(model, steps_per_read)
    generations = [one.start(request) for request in requests]
    one.step(4)
    counts = []
    for taken in (steps, 2 * steps):
        with StepTrace() as trace:
            one.step(taken)
        counts.append(trace.synchronisations.total())
    assert all(len(generation.live) == generation.request.sampling.n for generation in generations)
    return (counts[1] - counts[0]) / steps


def long(seed, **options):
    sampling = {"n": 2, "max_new_tokens": 200, "temperature": 0.7, "generation_options": {}, **options}
    # the random model would end a candidate at its first token
    sampling["generation_options"] = {"eos_token_id": 2999, **sampling["generation_options"]}
    return seeded(ids("x"), SamplingConfig(**sampling), seed, RECORDING)


def test_the_host_waits_once_in_so_many_steps():
    requests = [long(1), long(2), long(3, top_k=20), long(4, repetition_penalty=1.2), long(5, stop=("qqqq",))]
    assert waits(4, *requests) == 1 / 4
    assert waits(8, *requests) == 1 / 8
    # and looks at the ties of each draw, of which two are alike
    assert waits(1, *requests) == 1 + 4


def test_rows_that_draw_alike_share_one_draw():
    model = testing.tiny_model("llama", tokenizer=byte_tokenizer(), vocab_size=3000).model
    counts = []
    for number in (1, 2, 5):
        one = engine(model, 4)
        for seed in range(number):
            one.start(long(seed))
        one.step(1)
        with StepTrace() as trace:
            one.step(8)
        counts.append(trace.operations)
    for name in ("topk", "_softmax", "cumsum", "searchsorted", "eq", "isin"):
        assert len({count[name] for count in counts}) == 1, name


def test_the_random_numbers_of_a_step_do_not_depend_on_which_others_are_asked_for():
    seeds = {3: 11, 5: 12, 9: 13}
    whole = CandidateStreams(seeds).between(0, 300, [3, 5, 9])
    assert whole.shape == (300, 3)
    pieces = CandidateStreams(seeds)
    for start, end in pairwise([0, 7, 70, 64 * 2, 64 * 2 + 1, 300]):
        # what was drawn in vain is drawn again
        assert torch.equal(pieces.between(start, end + 40, [9, 3])[: end - start], whole[start:end, [2, 0]])
    assert (whole >= 0).all()
    assert (whole < 1).all()
    assert len(whole.unique()) > 890


def forward_operations(model, rows):
    """Operations of the model's own forward pass for one token of every row."""
    cache = DynamicCache(config=model.config)
    tokens = torch.tensor([ids("hello")] * rows)
    with torch.inference_mode():
        model(tokens, past_key_values=cache, logits_to_keep=1)
        positions = torch.full((rows, 1), tokens.shape[1])
        with StepTrace() as trace:
            model(tokens[:, -1:], past_key_values=cache, position_ids=positions, logits_to_keep=1)
    return trace.operations.total()


def operations(model, number, n, recording):
    """Operations of a step, without those that every call of `step` makes once."""
    one = engine(model, 4)
    for seed in range(number):
        one.start(seeded(ids("hello"), long(0).sampling.model_copy(update={"n": n}), seed, recording))
    one.step(1)
    counts = []
    for taken in (8, 16):
        with StepTrace() as trace:
            one.step(taken)
        counts.append(trace.operations.total())
    return (counts[1] - counts[0]) / 8


def test_on_an_accelerator_a_step_does_little_more_than_the_model(monkeypatch):
    on_cpu = batch.copying_rows
    monkeypatch.setattr(batch, "copying_rows", lambda prompt, **_: on_cpu(prompt, on_cpu=False))
    layers = 6
    model = testing.tiny_model("llama", tokenizer=byte_tokenizer(), vocab_size=3000, num_hidden_layers=layers).model
    model.to(torch.bfloat16)
    alone = forward_operations(model, 4)
    # one copy for the recorder in each layer; the rest is the same for a model of any depth
    assert operations(model, 1, 4, None) <= alone + 50
    assert operations(model, 1, 4, RECORDING) <= alone + layers + 50
    # and in each layer, a further request adds its keys, its values and its attention
    assert operations(model, 5, 4, None) <= alone + layers * (4 * 3 + 1) + 60
