"""Eight-bit linear layers: how far they are from the float ones, and that recording and attribution read them."""

import weakref
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from nad_agents import NADConfig, NeuronAgreementDecoder, SamplingConfig
from nad_agents.exceptions import ConfigurationError
from nad_agents.models import LoadedModel, load_model, resolve_dtype
from nad_agents.models.int8 import Int8Linear, check_int8_support, quantize_linear_layers
from nad_agents.neurons.architectures import find_feed_forwards, find_unembedding, verify_feed_forwards
from tests.tiny_models import FAMILIES, make_model, save_model

CPU = torch.device("cpu")


def works_here():
    try:
        check_int8_support(CPU)
    except ConfigurationError:
        return False
    return True


needs_kernels = pytest.mark.skipif(not works_here(), reason="this CPU has no VNNI or AMX")


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def as_written(layer, x):
    """The docstring's formula in exact integers."""
    scale = x.abs().amax(-1, keepdim=True) / 127
    whole = (x / scale).round().to(torch.int64)
    return (whole @ layer.weight.to(torch.int64).T).double() * scale * layer.scale + (
        0 if layer.bias is None else layer.bias
    )


@needs_kernels
class TestLayer:
    @pytest.mark.parametrize("bias", [True, False])
    @pytest.mark.parametrize("shape", [(5, 64), (2, 3, 64), (1, 1, 64)])
    def test_is_the_formula(self, shape, bias):
        linear = nn.Linear(64, 48, bias=bias)
        layer = Int8Linear(linear.weight, linear.bias)
        x = random(*shape)
        found = layer(x)
        assert found.shape == (*shape[:-1], 48)
        torch.testing.assert_close(found.double(), as_written(layer, x), rtol=1e-5, atol=1e-5)

    def test_is_near_the_float_layer(self):
        linear, x = nn.Linear(256, 200), random(40, 256)
        exact = linear(x).detach()
        assert (Int8Linear(linear.weight, linear.bias)(x) - exact).norm() < 0.02 * exact.norm()

    def test_sums_do_not_overflow(self):
        layer = Int8Linear(torch.ones(8, 4096))
        torch.testing.assert_close(layer(torch.ones(3, 4096)), torch.full((3, 8), 4096.0))
        torch.testing.assert_close(layer(-torch.ones(3, 4096)), torch.full((3, 8), -4096.0))

    def test_a_token_does_not_depend_on_the_others(self):
        layer, x = Int8Linear(random(96, 64)), random(33, 64, seed=1)
        x[7] *= 1000
        assert torch.equal(layer(x)[:7], layer(x[:7]))

    def test_a_transposed_weight(self):
        weight, x = random(96, 64).T, random(5, 96, seed=1)
        torch.testing.assert_close(Int8Linear(weight)(x), Int8Linear(weight.contiguous())(x), rtol=0, atol=0)

    def test_nothing_but_zeros(self):
        layer = Int8Linear(torch.zeros(8, 16))
        assert layer(torch.zeros(2, 16)).tolist() == [[0.0] * 8] * 2


@needs_kernels
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_keeps_its_neurons(family):
    model = make_model(family)
    floats = find_feed_forwards(model)
    weights = [block.dense.down_weight().clone() for block in floats]
    parameters = model.num_parameters()
    ids = torch.tensor([list(range(3, 40))])
    with torch.no_grad():
        before = model(ids).logits.log_softmax(-1)
        quantize_linear_layers(model)
        after = model(ids).logits.log_softmax(-1)
    assert (before.exp() * (before - after)).sum(-1).mean() < 0.05
    found = verify_feed_forwards(model, find_feed_forwards(model))
    for block in found:
        block.check_attribution()
    assert [(b.dense.name, b.kind, b.d_ff) for b in found] == [(b.dense.name, b.kind, b.d_ff) for b in floats]
    for block, weight in zip(found, weights, strict=True):
        assert (block.dense.down_weight() - weight).abs().max() <= weight.abs().max() / 127
    assert model.num_parameters() == parameters


@needs_kernels
def test_each_float_weight_is_freed_before_the_next_but_one_is_read(monkeypatch):
    model = make_model("llama")
    made, alive = [], []
    original = Int8Linear.__init__

    def watched(self, weight, bias=None, *, shared=False):
        alive.append(sum(ref() is not None for ref in made))
        original(self, weight, bias, shared=shared)
        made.append(weakref.ref(weight))

    monkeypatch.setattr(Int8Linear, "__init__", watched)
    quantize_linear_layers(model)
    assert len(made) > 10
    assert max(alive) <= 1


@needs_kernels
def test_attribution_reads_the_unembedding():
    model = make_model("llama")
    exact = find_unembedding(model).rows(torch.tensor([5, 9]))
    quantize_linear_layers(model)
    rows = find_unembedding(model).rows(torch.tensor([5, 9]))
    assert (rows - exact).abs().max() <= exact.abs().max() / 127


@needs_kernels
@pytest.mark.parametrize("score", ["activation", "attribution"])
def test_candidates_are_the_same_whatever_their_company(score, tmp_path):
    save_model(make_model("llama"), tmp_path)
    loaded = load_model(tmp_path, device="cpu", dtype="int8")
    assert isinstance(loaded, LoadedModel)
    assert loaded.dtype == torch.int8
    decoder = NeuronAgreementDecoder(loaded, config=NADConfig(score=score, top_k_neurons=16, top_k_neurons_per_layer=8))
    few, many = (decoder.sample("hello", sampling=SamplingConfig(n=n, seed=3, max_new_tokens=24)) for n in (2, 5))
    for a, b in zip(few.rollouts, many.rollouts[:2], strict=True):
        assert a.token_ids.tolist() == b.token_ids.tolist()
        assert a.neurons.tolist() == b.neurons.tolist()


def test_refused_where_it_does_not_work(monkeypatch):
    with pytest.raises(ConfigurationError, match=r"runs on CPUs, and the device is cuda; .* device='cpu'"):
        resolve_dtype("int8", SimpleNamespace(type="cuda"))
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True}, raising=False)
    with pytest.raises(ConfigurationError, match=r"VNNI or AMX.*use dtype='float32'"):
        resolve_dtype("int8", CPU)
