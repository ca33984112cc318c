"""Candidates that attend to one copy of their prompt: the same logits, whatever the model's attention is like."""

import threading
import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from nad_agents.engine.hf.engine import HFEngine
from nad_agents.engine.hf.prefix import batch, partial_attention
from nad_agents.engine.hf.prefix.attention import shared_prefix_attention
from nad_agents.engine.hf.prefix.cache import SharedPrefixCache
from nad_agents.engine.hf.prefix.support import sharing_obstacle
from nad_agents.neurons.recording_config import RecordingConfig
from nad_agents.types import SamplingConfig
from tests.family_checks import (
    CACHES,
    FREE,
    OWN_COPIES,
    PRODUCTS,
    START,
    assert_logits_are_those_of_one_pass,
    error_of_sixteen_bits,
    model_of,
)
from tests.generations import ids, run, seeded
from tests.hybrid_models import HYBRIDS
from tests.tiny_models import byte_tokenizer, make_model, tiny_model

SAMPLING = SamplingConfig(n=4, max_new_tokens=25, **FREE)


@pytest.mark.parametrize("name", [*CACHES, *PRODUCTS])
def test_logits_are_those_of_one_forward_pass_over_the_whole_text(name, monkeypatch):
    assert_logits_are_those_of_one_pass(name, monkeypatch)


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2", "qwen3_5_text"])
def test_draws_and_neurons_are_those_of_candidates_with_a_copy_each(family):
    model, recording = model_of(family), RecordingConfig(top_k_neurons=16)
    request = seeded(ids(START), SAMPLING, 5, None if family in HYBRIDS else recording)
    (shared,) = run(HFEngine(model, byte_tokenizer()), request)
    (copied,) = run(HFEngine(model, byte_tokenizer(), share_prompts=False), request)
    for mine, other in zip(shared.rollouts, copied.rollouts, strict=True):
        assert mine.token_ids.tolist() == other.token_ids.tolist()
        assert (mine.neurons != other.neurons).sum() <= 0.01 * mine.neurons.size


@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt_neox"])
def test_sixteen_bits_are_no_further_from_thirty_two_than_with_copies(family):
    assert error_of_sixteen_bits(make_model(family, seed=3)) <= 1.1


def test_a_request_that_joins_copies_nothing_of_the_others_and_a_row_that_leaves_touches_suffixes_only():
    engine = HFEngine(tiny_model(), byte_tokenizer())
    sampling = SAMPLING.model_copy(update={"generation_options": {"min_new_tokens": 25}})
    first = engine.start(seeded(ids(START), sampling, 1))
    engine.step(5)
    layer = engine._batches.current.cache.layers[0]
    prefix, suffix = layer.prefixes[0].blocks[0].keys.data_ptr(), layer.suffixes[0].keys.data_ptr()
    second = engine.start(seeded(ids(START * 2), sampling, 2))
    assert layer.prefixes[0].blocks[0].keys.data_ptr() == prefix
    assert layer.suffixes[0].keys.data_ptr() == suffix
    joined = layer.suffixes[1]
    engine.step(1)
    kept = joined.keys.data_ptr()
    engine.drop(first, {0, 3})
    assert layer.prefixes[0].blocks[0].keys.data_ptr() == prefix
    assert layer.suffixes[0].keys.shape[0] == 2
    assert joined.keys.data_ptr() == kept
    engine.release(first)
    assert len(layer.prefixes) == len(layer.suffixes) == 1
    engine.release(second)
    assert engine.rows == 0


class Allocated(TorchDispatchMode):
    """Sums up the bytes of all tensors that are made."""

    def __init__(self):
        super().__init__()
        self.storages = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                self.storages[storage.data_ptr()] = storage.nbytes()
        return result


@pytest.mark.parametrize("n", [1, 4])
def test_joining_costs_the_same_whatever_the_others_hold(n):
    costs = []
    for other in ("b", START, START * 4):
        engine = HFEngine(tiny_model(), byte_tokenizer())
        engine.start(seeded(ids(other), SAMPLING, 1))
        engine.step(5)
        prefill = engine.prefill(seeded(ids(START), SAMPLING.model_copy(update={"n": n}), 2))
        while prefill.advance():
            pass
        with Allocated() as allocated:
            engine.join(prefill)
        costs.append(sum(allocated.storages.values()))
        assert engine._batches.current.step_inputs()[1] is None, "padding would need a mask"
    assert 0 < costs[0] == costs[1] == costs[2]


def test_the_only_row_of_a_request_has_a_short_prompt_to_itself(monkeypatch):
    monkeypatch.setattr(batch, "COPIED_PROMPT", 40)
    engine = HFEngine(tiny_model(), byte_tokenizer(), prefix_bytes=2**24)
    alone = SAMPLING.model_copy(update={"n": 1})
    engine.start(seeded(ids(START[:41]), alone, 1))
    layer = engine._batches.current.cache.layers[0]
    kept = engine._batches.prefixes._prompts[0].prefix.attention[0].blocks[0].keys
    before = kept.clone()
    engine.start(seeded(ids(START[:42]), alone, 1))
    engine.start(seeded(ids(START[:41]), SAMPLING, 1))
    groups = engine._batches.current.cache.groups
    assert [group.prefix for group in groups] == [0, 41, 40]
    assert [group.position for group in groups] == [40, 41, 40]
    assert [bool(prefix.blocks) for prefix in layer.prefixes] == [False, True, True]
    # the copy has its own memory, into which the row grows
    assert layer.suffixes[0].keys.untyped_storage().data_ptr() != kept.untyped_storage().data_ptr()
    engine.step(20)
    assert torch.equal(kept, before)


@pytest.mark.parametrize("name", ["llama", "gemma2", *PRODUCTS])
def test_copies_of_a_short_prompt_change_no_logits(name, monkeypatch):
    on_cpu = batch.copying_rows
    monkeypatch.setattr(batch, "copying_rows", lambda prompt, **_: on_cpu(prompt, on_cpu=False))
    assert_logits_are_those_of_one_pass(name, monkeypatch)
    engine = HFEngine(tiny_model(), byte_tokenizer())
    engine.start(seeded(ids(START), SAMPLING, 1))
    assert [group.prefix for group in engine._batches.current.cache.groups] == [0]


@pytest.mark.parametrize(
    ("on_cpu", "prompt", "rows"),
    [(True, 1024, 1), (True, 1025, 0), (False, 1024, 16), (False, 1, 16384), (False, 0, 16384), (False, 1025, 0)],
)
def test_how_many_rows_copy_a_prompt(on_cpu, prompt, rows):
    assert batch.copying_rows(prompt, on_cpu=on_cpu) == rows


@pytest.mark.parametrize("name", ["llama", "gemma2", *PRODUCTS])
def test_devices_without_a_kernel_compute_the_same_logits(name, monkeypatch):
    monkeypatch.setattr(partial_attention, "flash_kernel", lambda *_: None)
    assert_logits_are_those_of_one_pass(name, monkeypatch)


def test_the_model_is_as_before_outside_the_engine_and_for_other_threads_while_it_runs():
    model = make_model("gemma2")
    before = model.config._attn_implementation
    prompt = torch.tensor([ids(START)])
    with torch.inference_mode():
        expected = model(prompt).logits
        engine = HFEngine(model, byte_tokenizer())
        assert model.config._attn_implementation == before
        generation = engine.start(seeded(ids(START), SAMPLING, 1))
        seen = []
        with shared_prefix_attention(model, engine._batches.current.cache):
            assert model.config._attn_implementation != before
            other = threading.Thread(target=lambda: seen.append(model(prompt).logits))
            other.start()
            other.join()
    assert torch.equal(seen[0], expected)
    assert model.config._attn_implementation == before
    engine.release(generation)


@pytest.mark.parametrize("family", OWN_COPIES)
def test_what_cannot_be_shared_is_said(family):
    assert OWN_COPIES[family] in sharing_obstacle(make_model(family))


def test_what_a_step_has_stored_is_not_kept_a_second_time(monkeypatch):
    update, given = SharedPrefixCache.update, []

    def noted(cache, keys, values, *args, **options):
        given.append(weakref.ref(keys))
        return update(cache, keys, values, *args, **options)

    monkeypatch.setattr(SharedPrefixCache, "update", noted)
    engine = HFEngine(tiny_model(), byte_tokenizer())
    generation = engine.start(seeded(ids("a question"), SamplingConfig(n=3, max_new_tokens=40), 1))
    engine.step(12)
    assert len(given) > 12
    assert not [keys for keys in given if keys() is not None]
    engine.release(generation)
