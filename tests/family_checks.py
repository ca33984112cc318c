"""What has to hold of the engine and of the recorder, whichever family the model is of.

The unit tests ask it of one family for each kind of cache and of feed-forward block, tests/models of all the others.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import torch
from transformers import DogeForCausalLM, PreTrainedModel

from nad_agents.engine.base import GenerationRequest
from nad_agents.engine.hf import prefill
from nad_agents.engine.hf.engine import HFEngine
from nad_agents.engine.hf.kv_cache import ROOM
from nad_agents.engine.hf.memory import ModelShape
from nad_agents.engine.hf.prefix.layers import SUFFIX_ROOM
from nad_agents.engine.hf.prefix.support import sharing_obstacle
from nad_agents.neurons.architectures import decoder_layers
from nad_agents.neurons.recording_config import RecordingConfig
from nad_agents.types import SamplingConfig
from tests.feed_forward_formulas import assert_is_top, formula_layers
from tests.generations import ids, run, seeded, teacher_forced
from tests.hybrid_models import HYBRIDS, hybrid_model
from tests.model_families import FAMILIES as LANGUAGE_MODELS
from tests.model_families import MULTIMODAL, family_model
from tests.tiny_models import byte_tokenizer, make_model, tiny_model

CACHES = ("llama", "gemma2", "falcon", "qwen3_5_text")
"""A family for each kind of cache: of all tokens, of windows, of a copy of the prompt per row, of a state."""

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
ODD: dict[str, tuple[str, dict[str, Any]]] = {
    "sinks and windows": ("gpt_oss", {**_EXPERTS, "head_dim": 8, "sliding_window": 16}),
    "latent attention": ("deepseek_v3", _LATENT),
    "windows": ("mistral", {"sliding_window": 16}),
    "windows without positions": ("cohere2", {"head_dim": 8, "sliding_window": 16}),
    "one head of keys": ("gpt_bigcode", {}),
    "partial rotary": ("stablelm", {}),
    "queries scaled by position": ("ministral3", {}),
}
"""Kinds of attention that the other families do not have."""

PRODUCTS = ("sinks and windows", "latent attention")
"""Those of them that are computed by other products."""

OWN_COPIES: dict[str, str] = {
    "falcon": "such a cache",
    "bloom": "no positions",
    "doge": "a mask of its own",
    "diffllama": "changes keys or values",
}
"""Families whose rows cannot share a prompt, and why."""

if "create_masks_for_generate" not in vars(DogeForCausalLM):
    del OWN_COPIES["doge"]  # whose logits differ with and without a cache in such versions of transformers

FREE: dict[str, Any] = {"temperature": 1.0, "top_k": 0, "top_p": 1.0}
START = "a rather long prompt, longer than the window of sixteen, read in several pieces "
PROMPTS = [
    START,
    "b",
    "short one",
    START + "and a second turn that goes on for a good while",
    START[:50] + "or not",
    START,
]


def others(names: Iterable[str], in_unit: Iterable[str]) -> list[str]:
    """The names that the unit tests leave out, each once."""
    left_out = set(in_unit)
    return [name for name in dict.fromkeys(names) if name not in left_out]


def model_of(name: str) -> PreTrainedModel:
    """The tiny model of a family or of an odd kind of attention."""
    if name in HYBRIDS:
        return hybrid_model(name)
    family, options = ODD.get(name, (name, {}))
    return tiny_model(family) if not options else make_model(family, **options)


def assert_greedy_is_generate(family: str) -> None:
    """One greedy candidate is what the library's `generate` gives."""
    model, prompt = tiny_model(family), ids("def add(a, b):\n    return")
    (group,) = run(
        HFEngine(model, byte_tokenizer()),
        seeded(prompt, SamplingConfig(n=1, temperature=0, max_new_tokens=16), 0, RecordingConfig()),
    )
    with torch.no_grad():
        expected = model.generate(torch.tensor([prompt]), max_new_tokens=16, do_sample=False)
    assert [r.token_ids.tolist() for r in group.rollouts] == expected[:, len(prompt) :].tolist()


class PieceEngine(HFEngine):
    """Says how many tokens of prompts each forward pass read, and keeps the last logits."""

    PROMPT = "def merge(left, right):\n    # merges two sorted lists into one sorted list\n    return"
    SAMPLING = SamplingConfig(n=3, max_new_tokens=16, **FREE)

    def __init__(self, model, **options):
        super().__init__(model, byte_tokenizer(), **options)
        self.read = []

    def _forward(self, tokens, *rest):
        if tokens.shape[0] == 1 and tokens.shape[1] > 1:
            self.read.append(tokens.shape[1])
        self.logits = super()._forward(tokens, *rest)
        return self.logits

    def drawn(self, text=PROMPT):
        """The tokens of candidates of a prompt."""
        (group,) = run(self, seeded(ids(text), self.SAMPLING, 4))
        return [rollout.token_ids.tolist() for rollout in group.rollouts]


def assert_pieces_give_what_the_whole_prompt_gives(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A prompt that is read in pieces gives the same candidates and logits."""
    whole, pieced = PieceEngine(tiny_model(family)), PieceEngine(tiny_model(family))
    expected = whole.drawn()
    monkeypatch.setattr(prefill, "PREFILL_TOKENS", 20)
    assert pieced.drawn() == expected
    torch.testing.assert_close(pieced.logits, whole.logits, rtol=1e-4, atol=1e-4)
    length = len(ids(PieceEngine.PROMPT)) - 1
    assert whole.read == [length]
    assert pieced.read == [20] * (length // 20) + [length % 20]


def assert_same_group(every, few) -> None:
    """Two groups have the same candidates, up to rounding."""
    for one, other in zip(every.rollouts, few.rollouts, strict=True):
        assert one.token_ids.tolist() == other.token_ids.tolist()
        assert (one.text, one.finish_reason) == (other.text, other.finish_reason)
        assert one.neurons.shape == other.neurons.shape
        assert np.count_nonzero(one.neurons != other.neurons) <= 0.01 * one.neurons.size
        for name in ("logprobs", "entropies", "self_certainties", "confidences"):
            np.testing.assert_allclose(getattr(one, name), getattr(other, name), atol=1e-4)


def assert_steps_between_reads_change_nothing(family: str) -> None:
    """The candidates are the same whether the host reads after every step or after four who has ended."""
    model, recording = model_of(family), RecordingConfig(top_k_neurons=12, top_k_neurons_per_layer=8)

    def engine(steps_per_read):
        return HFEngine(model, byte_tokenizer(), steps_per_read=steps_per_read)

    # whose feed-forward blocks have no direct contribution to a logit
    score = "activation" if family == "zamba2" else "attribution"
    requests = [
        seeded(ids("def add(a, b):"), SamplingConfig(n=6, max_new_tokens=45, **FREE), 3, recording),
        seeded(ids("x"), SamplingConfig(n=5, max_new_tokens=30, **FREE), 4, RecordingConfig(score, 9, 5)),
        seeded(ids("y"), SamplingConfig(n=5, max_new_tokens=30, **FREE, stop=("a", "e")), 5, recording),
        seeded(ids("z"), SamplingConfig(n=1, temperature=0, max_new_tokens=19), 6),
    ]
    # a recurrent cache holds one prompt at a time in some families
    groups = [requests] if engine(1).can_join() else [[request] for request in requests]
    for one in groups:
        for every, few in zip(run(engine(1), *one), run(engine(4), *one), strict=True):
            assert_same_group(every, few)


def assert_rows_join_and_leave(family: str) -> None:
    """Rows of several prompts join and leave without changing one another's logits."""
    prompts = ["a rather long prompt, longer than the window of sixteen", "b", "short one"]
    sampling = SamplingConfig(n=6, max_new_tokens=25, **FREE)
    model = hybrid_model(family)
    engine = HFEngine(model, byte_tokenizer())
    requests = [seeded(ids(text), sampling, seed) for seed, text in enumerate(prompts)]
    first = engine.start(requests[0])
    engine.step(5)
    assert engine.can_join()
    second = engine.start(requests[1])
    engine.step(3)
    engine.drop(first, {1, 4})
    third = engine.start(requests[2])
    while first.live or second.live or third.live:
        engine.step(7)
    _assert_logprobs_are_forced(model, (first, second, third), requests)


def assert_logits_are_those_of_one_pass(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logits over a shared prompt are those of one forward pass over the whole text."""
    monkeypatch.setattr(prefill, "PREFILL_TOKENS", 20)
    sampling = SamplingConfig(n=4, max_new_tokens=25, **FREE)
    model = model_of(name)
    assert bool(sharing_obstacle(model)) == (name in OWN_COPIES)
    engine = HFEngine(model, byte_tokenizer(), prefix_bytes=2**24)
    # an only row has its short prompt to itself, beside rows that share theirs
    alone = sampling.model_copy(update={"n": 1})
    requests = [seeded(ids(text), alone if seed in (1, 3) else sampling, seed) for seed, text in enumerate(PROMPTS)]
    generations = []
    for request in requests:
        generations.append(engine.start(request))
        engine.step(4)
        if len(generations) == 3:
            engine.drop(generations[0], {1, 2})
    assert generations[-1].cached_tokens == len(ids(START)) - 1
    while any(generation.live for generation in generations):
        engine.step(7)
    _assert_logprobs_are_forced(model, generations, requests)


def _assert_logprobs_are_forced(model, generations, requests) -> None:
    for generation, request in zip(generations, requests, strict=True):
        for rollout in generation.group().rollouts:
            expected = teacher_forced(model, request.prompt_ids, rollout.token_ids.tolist())
            torch.testing.assert_close(torch.tensor(rollout.logprobs), expected, rtol=0, atol=1e-5)


def _sixteen_bit_error(exact, rough, prompt, *, share_prompts) -> float:
    """The root mean square difference of a bfloat16 model's log-probabilities from those of its float32 original."""
    sampling = SamplingConfig(n=4, max_new_tokens=24, **FREE)
    engine = HFEngine(rough, byte_tokenizer(), share_prompts=share_prompts)
    (group,) = run(engine, seeded(prompt, sampling, 5))
    errors = [
        torch.tensor(rollout.logprobs) - teacher_forced(exact, prompt, rollout.token_ids.tolist())
        for rollout in group.rollouts
    ]
    return float(torch.cat(errors).square().mean().sqrt())


def error_of_sixteen_bits(exact: PreTrainedModel) -> float:
    """The error of a bfloat16 model whose rows share a prompt, over that of one whose rows have a copy each."""
    rough = copy.deepcopy(exact).to(torch.bfloat16)
    shared, copied = (_sixteen_bit_error(exact, rough, ids(START * 4), share_prompts=share) for share in (True, False))
    return shared / copied


def _held_bytes(batch) -> int:
    """The memory of the keys, values and states of a batch; what several rows share counts once."""
    tensors = []
    for layer in batch.cache.layers:
        for states in (getattr(layer, "conv_states", {}), getattr(layer, "recurrent_states", {})):
            tensors += states.values()
        for part in (layer, *getattr(layer, "suffixes", ())):
            tensors += [getattr(part, "keys", None), getattr(part, "values", None)]
        for prefix in getattr(layer, "prefixes", ()):
            tensors += [tensor for block in prefix.blocks for tensor in (block.keys, block.values)]
    storages = [tensor.untyped_storage() for tensor in tensors if tensor is not None]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def assert_the_cache_is_as_large_as_computed(family: str) -> None:
    """The cache that generation fills has the size that is computed from the config."""
    model = model_of(family)
    engine = HFEngine(model, byte_tokenizer())
    sampling = SamplingConfig(n=3, max_new_tokens=20, seed=0, generation_options={"min_new_tokens": 20})
    generation = engine.start(GenerationRequest(tuple(range(1, 13)), sampling))
    engine.step(19)
    held = _held_bytes(engine._batches.current)
    engine.release(generation)
    shape = ModelShape.of(model.config, model.dtype)
    if family == "falcon":  # whose rows have a copy of the prompt each
        expected = shape.cache_bytes(3, ROOM)
    else:
        # 11 of the prompt; the last one and 18 that were drawn, in room for 32; the state after the prompt is not kept
        states = sum(layer.state for layer in shape.layers) * shape.itemsize
        expected = shape.cache_bytes(1, 11) - states + shape.cache_bytes(3, SUFFIX_ROOM, spare=SUFFIX_ROOM)
    assert held == expected


TOP_K, PER_LAYER = 20, 12


RECORDED = ("Llama 2, 3", "GPT-2", "Phi-3, 4", "Qwen 2 MoE", "Gemma 3n")
"""A family for each kind of block: gated, plain, fused gates, experts with a shared one, layers of several kinds."""


def assert_decoding_records_the_formula(name: str) -> None:
    """What is recorded while decoding is what one forward pass over the sequence computes by the written formulas."""
    family = next(family for family in (*LANGUAGE_MODELS, *MULTIMODAL) if family.name == name)
    model, tokenizer = family_model(name), byte_tokenizer()
    engine = HFEngine(model, tokenizer)
    prompt = tokenizer("def add(a, b):")["input_ids"]
    sampling = SamplingConfig(n=2, max_new_tokens=20, temperature=1.0, top_k=0, top_p=1.0, seed=11)
    unembedding = model.get_output_embeddings().weight
    for score in ("activation", "attribution") if family.attribution else ("activation",):
        recording = RecordingConfig(score=score, top_k_neurons=TOP_K, top_k_neurons_per_layer=PER_LAYER)
        generation = engine.start(GenerationRequest(prompt, sampling, recording))
        while generation.live:
            engine.step(8)
        engine.release(generation)
        layout = engine.layout(recording)
        for rollout in generation.group().rollouts:
            tokens = prompt + rollout.token_ids.tolist()
            layers = formula_layers(model, decoder_layers(model)[1], tokens)
            values = [layer.scores(score, unembedding[[*tokens[1:], 0]]) for layer in layers]
            assert rollout.neurons.shape == (len(rollout), TOP_K)
            for t in range(len(rollout)):
                at = len(prompt) - 1 + t
                candidates = [(layer.numbers[at], scored[at]) for layer, scored in zip(layers, values, strict=True)]
                assert_is_top(rollout.neurons[t], candidates, layout.d_ff, TOP_K, PER_LAYER)
