"""Candidates that attend to one copy of their prompt: the same logits, whatever the model's attention is like."""

import copy
import statistics
import threading

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import DogeForCausalLM

from nad_agents.engine.hf import prefill
from nad_agents.engine.hf.engine import HFEngine
from nad_agents.engine.hf.prefix import batch, partial_attention
from nad_agents.engine.hf.prefix.attention import shared_prefix_attention
from nad_agents.engine.hf.prefix.support import sharing_obstacle
from nad_agents.neurons.recording_config import RecordingConfig
from nad_agents.types import SamplingConfig
from tests.tiny_models import FAMILIES, byte_tokenizer, make_model, tiny_model
from tests.unit.engine.hf.generations import ids, run, seeded, teacher_forced
from tests.unit.engine.hf.hybrids import HYBRIDS, hybrid_model

_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
_LATENT = {
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "kv_lora_rank": 16,
    "q_lora_rank": None,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 12,
    "moe_intermediate_size": 24,
    "num_key_value_heads": 4,
}
ODD = {
    "sinks and windows": ("gpt_oss", {**_EXPERTS, "head_dim": 8, "sliding_window": 16}),
    "latent attention": ("deepseek_v3", _LATENT),
    "windows": ("mistral", {"sliding_window": 16}),
    "windows without positions": ("cohere2", {"head_dim": 8, "sliding_window": 16}),
    "one head of keys": ("gpt_bigcode", {}),
    "partial rotary": ("stablelm", {}),
    "queries scaled by position": ("ministral3", {}),
}
OWN_COPIES = {
    "falcon": ({}, "such a cache"),
    "bloom": ({}, "no positions"),
    "doge": ({}, "a mask of its own"),
    "diffllama": ({}, "changes keys or values"),
}
if "create_masks_for_generate" not in vars(DogeForCausalLM):
    del OWN_COPIES["doge"]  # whose logits differ with and without a cache in such versions of transformers
START = "a rather long prompt, longer than the window of sixteen, read in several pieces "
PROMPTS = [
    START,
    "b",
    "short one",
    START + "and a second turn that goes on for a good while",
    START[:50] + "or not",
    START,
]
SAMPLING = SamplingConfig(n=4, max_new_tokens=25, temperature=1.0, top_k=0, top_p=1.0)


def model_of(name):
    if name in HYBRIDS:
        return hybrid_model(name)
    family, options = ODD.get(name, (name, {}))
    return tiny_model(family) if not options else make_model(family, **options)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")  # older versions' StarCoder
@pytest.mark.parametrize("name", [*FAMILIES, *HYBRIDS, *ODD, *OWN_COPIES])
def test_logits_are_those_of_one_forward_pass_over_the_whole_text(name, monkeypatch):
    monkeypatch.setattr(prefill, "PREFILL_TOKENS", 20)
    model = model_of(name)
    assert bool(sharing_obstacle(model)) == (name in OWN_COPIES)
    engine = HFEngine(model, byte_tokenizer(), prefix_bytes=2**24)
    # an only row has its short prompt to itself, beside rows that share theirs
    alone = SAMPLING.model_copy(update={"n": 1})
    requests = [seeded(ids(text), alone if seed in (1, 3) else SAMPLING, seed) for seed, text in enumerate(PROMPTS)]
    generations = []
    for request in requests:
        generations.append(engine.start(request))
        engine.step(4)
        if len(generations) == 3:
            engine.drop(generations[0], {1, 2})
    assert generations[-1].cached_tokens == len(ids(START)) - 1
    while any(generation.live for generation in generations):
        engine.step(7)
    for generation, request in zip(generations, requests, strict=True):
        for rollout in generation.group().rollouts:
            expected = teacher_forced(model, request.prompt_ids, rollout.token_ids.tolist())
            torch.testing.assert_close(torch.tensor(rollout.logprobs), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2", "qwen3_5_text"])
def test_draws_and_neurons_are_those_of_candidates_with_a_copy_each(family):
    model, recording = model_of(family), RecordingConfig(top_k=16)
    request = seeded(ids(START), SAMPLING, 5, None if family in HYBRIDS else recording)
    (shared,) = run(HFEngine(model, byte_tokenizer()), request)
    (copied,) = run(HFEngine(model, byte_tokenizer(), share_prompts=False), request)
    for mine, other in zip(shared.rollouts, copied.rollouts, strict=True):
        assert mine.token_ids.tolist() == other.token_ids.tolist()
        assert (mine.neurons != other.neurons).sum() <= 0.01 * mine.neurons.size


def sixteen_bit_error(exact, rough, prompt, *, share_prompts):
    """The root mean square difference of a bfloat16 model's log-probabilities from those of its float32 original."""
    sampling = SamplingConfig(n=4, max_new_tokens=24, temperature=1.0, top_k=0, top_p=1.0)
    engine = HFEngine(rough, byte_tokenizer(), share_prompts=share_prompts)
    (group,) = run(engine, seeded(prompt, sampling, 5))
    errors = [
        torch.tensor(rollout.logprobs) - teacher_forced(exact, prompt, rollout.token_ids.tolist())
        for rollout in group.rollouts
    ]
    return float(torch.cat(errors).square().mean().sqrt())


def error_ratio(exact):
    rough = copy.deepcopy(exact).to(torch.bfloat16)
    shared, copied = (sixteen_bit_error(exact, rough, ids(START * 4), share_prompts=share) for share in (True, False))
    return shared / copied


@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt_neox"])
def test_sixteen_bits_are_no_further_from_thirty_two_than_with_copies(family):
    assert error_ratio(make_model(family, seed=3)) <= 1.1


def test_over_all_families_sixteen_bits_are_no_further_from_thirty_two():
    # the ratio of one family varies by chance, as rounding changes which tokens are drawn and which experts are taken
    ratios = {name: error_ratio(model_of(name)) for name in [*FAMILIES, *HYBRIDS, *ODD] if name not in OWN_COPIES}
    assert statistics.geometric_mean(ratios.values()) <= 1.05, ratios


def test_a_request_that_joins_copies_nothing_of_the_others_and_a_row_that_leaves_touches_suffixes_only():
    engine = HFEngine(tiny_model(), byte_tokenizer())
    sampling = SAMPLING.model_copy(update={"generation": {"min_new_tokens": 25}})
    first = engine.start(seeded(ids(START), sampling, 1))
    engine.step(5)
    layer = engine._batch.cache.layers[0]
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
        assert engine._batch.step_inputs()[1] is None, "padding would need a mask"
    assert 0 < costs[0] == costs[1] == costs[2]


def test_the_only_row_of_a_request_has_a_short_prompt_to_itself(monkeypatch):
    monkeypatch.setattr(batch, "COPIED_PROMPT", 40)
    engine = HFEngine(tiny_model(), byte_tokenizer(), prefix_bytes=2**24)
    alone = SAMPLING.model_copy(update={"n": 1})
    engine.start(seeded(ids(START[:41]), alone, 1))
    layer = engine._batch.cache.layers[0]
    kept = engine._prefixes._prompts[0].prefix.attention[0].blocks[0].keys
    before = kept.clone()
    engine.start(seeded(ids(START[:42]), alone, 1))
    engine.start(seeded(ids(START[:41]), SAMPLING, 1))
    groups = engine._batch.cache.groups
    assert [group.prefix for group in groups] == [0, 41, 40]
    assert [group.position for group in groups] == [40, 41, 40]
    assert [bool(prefix.blocks) for prefix in layer.prefixes] == [False, True, True]
    # the copy has its own memory, into which the row grows
    assert layer.suffixes[0].keys.untyped_storage().data_ptr() != kept.untyped_storage().data_ptr()
    engine.step(20)
    assert torch.equal(kept, before)


@pytest.mark.parametrize("name", ["llama", "gemma2", "sinks and windows", "latent attention"])
def test_copies_of_a_short_prompt_change_no_logits(name, monkeypatch):
    on_cpu = batch.copying_rows
    monkeypatch.setattr(batch, "copying_rows", lambda prompt, **_: on_cpu(prompt, on_cpu=False))
    test_logits_are_those_of_one_forward_pass_over_the_whole_text(name, monkeypatch)
    engine = HFEngine(tiny_model(), byte_tokenizer())
    engine.start(seeded(ids(START), SAMPLING, 1))
    assert [group.prefix for group in engine._batch.cache.groups] == [0]


@pytest.mark.parametrize(
    ("on_cpu", "prompt", "rows"),
    [(True, 1024, 1), (True, 1025, 0), (False, 1024, 16), (False, 1, 16384), (False, 0, 16384), (False, 1025, 0)],
)
def test_how_many_rows_copy_a_prompt(on_cpu, prompt, rows):
    assert batch.copying_rows(prompt, on_cpu=on_cpu) == rows


@pytest.mark.parametrize("name", ["llama", "gemma2", "sinks and windows", "latent attention"])
def test_devices_without_a_kernel_compute_the_same_logits(name, monkeypatch):
    monkeypatch.setattr(partial_attention, "flash_kernel", lambda *_: None)
    test_logits_are_those_of_one_forward_pass_over_the_whole_text(name, monkeypatch)


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
        with shared_prefix_attention(model, engine._batch.cache):
            assert model.config._attn_implementation != before
            other = threading.Thread(target=lambda: seen.append(model(prompt).logits))
            other.start()
            other.join()
    assert torch.equal(seen[0], expected)
    assert model.config._attn_implementation == before
    engine.release(generation)


@pytest.mark.parametrize("family", OWN_COPIES)
def test_what_cannot_be_shared_is_said(family):
    options, words = OWN_COPIES[family]
    assert words in sharing_obstacle(make_model(family, **options))
