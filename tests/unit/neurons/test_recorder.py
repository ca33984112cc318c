"""Neurons recorded while decoding are those of one forward pass over the finished sequence."""

import pytest
import torch
from torch import nn

from nad_agents.engine.base import GenerationRequest
from nad_agents.engine.hf.engine import HFEngine
from nad_agents.exceptions import ConfigurationError, RecordingError, UnsupportedModelError
from nad_agents.neurons.architectures import find_feed_forwards, find_unembedding
from nad_agents.neurons.recorder import ActivationTap, activated_neurons, neuron_layout
from nad_agents.neurons.recording_config import RecordingConfig
from nad_agents.types import SamplingConfig
from tests.tiny_models import D_FF, FAMILIES, KINDS, N_LAYERS, byte_tokenizer, make_model, tiny_model

PROMPT = "def add(a, b):"
TOP_K, PER_LAYER = 20, 12


def formula_activations(model, family, ids):
    """h[l] at every position by the written formula, from what enters the block: {layer: [T, d_ff]}."""
    blocks = find_feed_forwards(model)
    inputs = {}
    handles = []
    for block in blocks:
        parent = model.get_submodule(block.name.rsplit(".", 1)[0])
        first = next(m for m in parent.children() if m is not block.down and _is_projection(m, block.d_ff))
        handles.append(
            first.register_forward_pre_hook(lambda _m, x, layer=block.layer: inputs.__setitem__(layer, x[0]))
        )
    with torch.no_grad():
        model(input_ids=torch.tensor([ids]))
    for handle in handles:
        handle.remove()
    activations = {}
    for block in blocks:
        parent = model.get_submodule(block.name.rsplit(".", 1)[0])
        x = inputs[block.layer].reshape(len(ids), -1)
        with torch.no_grad():
            activations[block.layer] = _formula(family, parent, x)
    return activations


def _is_projection(module, d_ff):
    shapes = {getattr(module, "out_features", None), getattr(module, "nf", None)}
    return bool(shapes & {d_ff, 2 * d_ff})


def _formula(family, mlp, x):
    if family == "phi3":
        gate, up = mlp.gate_up_proj(x).chunk(2, dim=-1)
        return mlp.activation_fn(gate) * up
    if family == "gpt2":
        return mlp.act(mlp.c_fc(x))
    if family in ("gpt_neox", "falcon"):
        return mlp.act(mlp.dense_h_to_4h(x))
    if family == "opt":
        return mlp.activation_fn(mlp.fc1(x))
    if family == "starcoder2":
        return mlp.act(mlp.c_fc(x))
    return mlp.act_fn(mlp.gate_proj(x)) * mlp.up_proj(x)


def formula_scores(model, activations, ids, score):
    """[T, layers * d_ff] scores by the written formula; position t emits ids[t + 1]."""
    layers = []
    for block in find_feed_forwards(model):
        h = activations[block.layer]
        if score == "attribution":
            unembedding = find_unembedding(model).weight
            down = block.down.weight if isinstance(block.down, nn.Linear) else block.down.weight.T
            layers.append(torch.stack([h[t] * (unembedding[ids[t + 1]] @ down) for t in range(len(ids) - 1)]))
        else:
            layers.append(h[:-1].abs())
    return torch.stack(layers, dim=1), torch.stack([activations[i][:-1] for i in range(len(layers))], dim=1)


def assert_is_top(recorded, scores, activations, top_k, per_layer):
    """The recorded ids are the best top_k of the best per_layer of each layer, up to ties of float32 rounding."""
    recorded_set = {int(i) for i in recorded if i >= 0}
    pool = {}
    n_layers, d_ff = scores.shape
    for layer in range(n_layers):
        order = scores[layer].sort(descending=True, stable=True).indices[:per_layer]
        pool |= {layer * d_ff + int(i): float(scores[layer, i]) for i in order}
    best = sorted(pool, key=pool.get, reverse=True)[:top_k]
    expected = {i for i in best if float(activations.flatten()[i]) != 0}
    tolerance = 1e-5 * max(1.0, float(scores.abs().max()))
    flat = scores.flatten()
    for neuron in recorded_set ^ expected:
        edges = [pool[best[-1]], float(scores[neuron // d_ff].sort(descending=True).values[per_layer - 1]), 0.0]
        assert min(abs(float(flat[neuron]) - edge) for edge in edges) <= tolerance, neuron


@pytest.mark.parametrize("score", ["activation", "attribution"])
@pytest.mark.parametrize("family", FAMILIES)
def test_decoding_records_what_one_forward_over_the_sequence_computes(family, score):
    model, tokenizer = tiny_model(family), byte_tokenizer()
    engine = HFEngine(model, tokenizer)
    prompt = tokenizer(PROMPT)["input_ids"]
    recording = RecordingConfig(score=score, top_k=TOP_K, per_layer_top=PER_LAYER)
    sampling = SamplingConfig(n=2, max_new_tokens=20, temperature=1.0, top_k=0, top_p=1.0, seed=11)
    generation = engine.start(GenerationRequest(prompt, sampling, recording))
    while generation.live:
        engine.step(8)
    for rollout in generation.group().rollouts:
        ids = prompt + rollout.token_ids.tolist()
        activations = formula_activations(model, family, ids)
        scores, h = formula_scores(model, activations, ids, score)
        assert rollout.neurons.shape == (len(rollout), TOP_K)
        for t in range(len(rollout)):
            at = len(prompt) - 1 + t
            assert_is_top(rollout.neurons[t], scores[at], h[at], TOP_K, PER_LAYER)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_kind_of_feed_forward_is_found_by_structure(family):
    blocks = find_feed_forwards(tiny_model(family))
    assert [b.layer for b in blocks] == list(range(N_LAYERS))
    assert {b.kind for b in blocks} == {KINDS.get(family, "gated")}
    assert {b.d_ff for b in blocks} == {D_FF}


@pytest.mark.parametrize("family", ["mixtral", "mamba"])
def test_a_model_without_dense_feed_forward_blocks_is_refused_before_generation(family):
    options = {"intermediate_size": 48, "num_key_value_heads": 2} if family == "mixtral" else {}
    model = make_model(family, **options)
    engine = HFEngine(model, byte_tokenizer())
    request = GenerationRequest([1, 2], SamplingConfig(n=2, seed=0), RecordingConfig())
    with pytest.raises(UnsupportedModelError, match="dense"):
        engine.start(request)
    assert engine.rows == 0


def test_the_layer_range_limits_and_numbers_the_neurons():
    model = tiny_model()
    layout = neuron_layout(find_feed_forwards(model), RecordingConfig(layers=(1, 3)))
    assert (layout.n_layers, layout.first_layer, layout.n_neurons) == (2, 1, 2 * D_FF)
    engine = HFEngine(model, byte_tokenizer())
    sampling = SamplingConfig(n=2, max_new_tokens=5, seed=1)
    wide = engine.start(GenerationRequest([5, 6, 7], sampling, RecordingConfig(per_layer_top=4, top_k=12)))
    narrow = engine.start(
        GenerationRequest([5, 6, 7], sampling, RecordingConfig(per_layer_top=4, top_k=12, layers=(1, 3)))
    )
    while wide.live or narrow.live:
        engine.step(5)
    for a, b in zip(wide.group().rollouts, narrow.group().rollouts, strict=True):
        for t in range(len(a)):
            later = {int(i) - D_FF for i in a.neurons[t] if i >= D_FF}
            assert later == {int(i) for i in b.neurons[t]}


def test_a_layer_range_outside_the_model_is_refused():
    with pytest.raises(ConfigurationError, match="3 layers"):
        neuron_layout(find_feed_forwards(tiny_model()), RecordingConfig(layers=(2, 9)))


def test_an_exactly_zero_activation_is_not_activated():
    model = tiny_model()
    blocks = find_feed_forwards(model)[:1]
    h = torch.zeros(1, 1, D_FF)
    h[0, 0, [3, 7]] = torch.tensor([2.0, -5.0])
    config = RecordingConfig(top_k=4, per_layer_top=4)
    ids = activated_neurons([h], torch.tensor([[1]]), config, neuron_layout(blocks, config), blocks)
    assert ids.tolist() == [[[7, 3, -1, -1]]]


def test_a_smaller_k_is_a_prefix():
    model = tiny_model()
    blocks = find_feed_forwards(model)
    torch.manual_seed(0)
    h = [torch.randn(4, 2, D_FF) for _ in blocks]
    tokens = torch.ones(4, 2, dtype=torch.long)
    many, few = (
        activated_neurons(h, tokens, RecordingConfig(top_k=k), neuron_layout(blocks, RecordingConfig()), blocks)
        for k in (30, 10)
    )
    assert torch.equal(many[..., :10], few)


def test_the_model_is_as_before_when_the_tap_is_closed():
    model = make_model("llama")
    ids = torch.tensor([[3, 4, 5]])
    before = model(input_ids=ids).logits
    forward = [block.down.forward for block in find_feed_forwards(model)]
    with ActivationTap(model) as tap:
        tap.open(1, 4, (0, N_LAYERS), dtype=torch.float32, device=torch.device("cpu"), limit=2**20)
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in model.modules())
    assert [block.down.forward for block in find_feed_forwards(model)] == forward
    assert torch.equal(before, model(input_ids=ids).logits)


def test_the_hooks_go_even_when_a_forward_fails():
    model = make_model("llama")
    with pytest.raises(RuntimeError, match="broken"), ActivationTap(model):
        raise RuntimeError("broken")
    assert not any(m._forward_pre_hooks for m in model.modules())


def test_a_tap_that_is_not_installed_says_so():
    tap = ActivationTap(tiny_model())
    with pytest.raises(RecordingError, match="context manager"):
        tap.open(1, 1, (0, 1), dtype=torch.float32, device=torch.device("cpu"), limit=2**20)


def test_a_buffer_smaller_than_a_chunk_changes_nothing(monkeypatch):
    model, tokenizer = tiny_model(), byte_tokenizer()
    results = []
    for limit in (64 * 2**20, 3 * N_LAYERS * D_FF * 4 * 7):
        monkeypatch.setattr("nad_agents.engine.hf.batch_recorder.BUFFER_BYTES", {"activation": limit})
        engine = HFEngine(model, tokenizer)
        generation = engine.start(
            GenerationRequest([9, 8, 7], SamplingConfig(n=3, max_new_tokens=32, seed=2), RecordingConfig(top_k=10))
        )
        while generation.live:
            engine.step(32)
        results.append([r.neurons.tolist() for r in generation.group().rollouts])
    assert results[0] == results[1]


def test_the_buffer_is_made_once_for_a_request_and_given_back_with_it(monkeypatch):
    opened = []
    engine = HFEngine(tiny_model(), byte_tokenizer())
    real = ActivationTap.open

    def noted(tap, *args, **options):
        steps = real(tap, *args, **options)
        opened.append((tap, tap._memory.data_ptr()))
        return steps

    monkeypatch.setattr(ActivationTap, "open", noted)
    request = GenerationRequest([9, 8, 7], SamplingConfig(n=3, max_new_tokens=32, seed=2), RecordingConfig(top_k=10))
    generation = engine.start(request)
    while generation.live:
        engine.step(8)
    assert len(opened) > 1
    assert len(set(opened)) == 1
    engine.release(generation)
    assert opened[0][0]._memory.numel() == 0
