"""Neurons recorded while decoding are those of one forward pass over the finished sequence."""

import pytest
import torch

from nad_agents.engine.base import GenerationRequest
from nad_agents.engine.hf.engine import HFEngine
from nad_agents.exceptions import ConfigurationError, RecordingError
from nad_agents.neurons.architectures import find_feed_forwards
from nad_agents.neurons.recorder import activated_neurons, neuron_layout
from nad_agents.neurons.recording_config import RecordingConfig
from nad_agents.neurons.tap import ActivationTap, LayerActivations
from nad_agents.types import SamplingConfig
from tests.family_checks import RECORDED, assert_decoding_records_the_formula
from tests.model_families import family_model
from tests.step_trace import StepTrace
from tests.tiny_models import D_FF, N_LAYERS, byte_tokenizer, make_model, tiny_model


@pytest.mark.parametrize("name", RECORDED)
def test_decoding_records_what_one_forward_over_the_sequence_computes(name):
    assert_decoding_records_the_formula(name)


def test_the_layer_range_limits_and_numbers_the_neurons():
    model = tiny_model()
    layout = neuron_layout(find_feed_forwards(model), RecordingConfig(layers=(1, 3)))
    assert (layout.n_layers, layout.first_layer, layout.n_neurons) == (2, 1, 2 * D_FF)
    engine = HFEngine(model, byte_tokenizer())
    sampling = SamplingConfig(n=2, max_new_tokens=5, seed=1)
    wide = engine.start(
        GenerationRequest([5, 6, 7], sampling, RecordingConfig(top_k_neurons_per_layer=4, top_k_neurons=12))
    )
    narrow = engine.start(
        GenerationRequest(
            [5, 6, 7], sampling, RecordingConfig(top_k_neurons_per_layer=4, top_k_neurons=12, layers=(1, 3))
        )
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
    config = RecordingConfig(top_k_neurons=4, top_k_neurons_per_layer=4)
    ids = activated_neurons([LayerActivations(h)], torch.tensor([[1]]), config, neuron_layout(blocks, config), blocks)
    assert ids.tolist() == [[[7, 3, -1, -1]]]


def test_a_smaller_k_is_a_prefix():
    model = tiny_model()
    blocks = find_feed_forwards(model)
    torch.manual_seed(0)
    h = [LayerActivations(torch.randn(4, 2, D_FF)) for _ in blocks]
    tokens = torch.ones(4, 2, dtype=torch.long)
    many, few = (
        activated_neurons(h, tokens, RecordingConfig(top_k_neurons=k), neuron_layout(blocks, RecordingConfig()), blocks)
        for k in (30, 10)
    )
    assert torch.equal(many[..., :10], few)


def test_the_model_is_as_before_when_the_tap_is_closed():
    model = make_model("llama")
    ids = torch.tensor([[3, 4, 5]])
    before = model(input_ids=ids).logits
    forward = [block.dense.down.forward for block in find_feed_forwards(model)]
    with ActivationTap(model) as tap:
        tap.open(1, 4, (0, N_LAYERS), dtype=torch.float32, device=torch.device("cpu"), limit=2**20)
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in model.modules())
    assert [block.dense.down.forward for block in find_feed_forwards(model)] == forward
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
            GenerationRequest(
                [9, 8, 7], SamplingConfig(n=3, max_new_tokens=32, seed=2), RecordingConfig(top_k_neurons=10)
            )
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
    request = GenerationRequest(
        [9, 8, 7], SamplingConfig(n=3, max_new_tokens=32, seed=2), RecordingConfig(top_k_neurons=10)
    )
    generation = engine.start(request)
    while generation.live:
        engine.step(8)
    assert len(opened) > 1
    assert len(set(opened)) == 1
    engine.release(generation)
    assert opened[0][0]._memory.numel() == 0


def test_recording_llama_4_changes_no_bit_and_does_not_wait_for_the_device():
    model = family_model("Llama 4")
    blocks = find_feed_forwards(model)
    tokens = torch.tensor([[5], [6], [7]])
    with torch.inference_mode():
        expected = model(tokens).logits
        with ActivationTap(model, blocks) as tap:
            tap.open(3, 2, (0, len(blocks)), dtype=torch.float32, device=model.device, limit=2**20)
            with StepTrace() as trace:
                found = model(tokens).logits
            assert tap.next_step() == 1
            experts = [layer.experts for layer in tap.take() if layer.experts is not None]
    assert torch.equal(found, expected)
    assert experts
    waits = [place for place in trace.synchronisations if "experts.py" in place or "tap.py" in place]
    assert not waits
    # the experts have their own implementation back
    assert not any("forward" in vars(module) for module in model.modules())
