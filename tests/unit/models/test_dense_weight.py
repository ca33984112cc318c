"""Weights of layers of quantization packages, by the attributes that the packages give them."""

import json

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from nad_agents.exceptions import ConfigurationError, MissingDependencyError, UnsupportedModelError
from nad_agents.models import load_model
from nad_agents.models.dense_weight import dense_weight, weight_format
from nad_agents.models.int8 import Int8Linear
from nad_agents.neurons.architectures import find_feed_forwards
from tests.tiny_models import make_model, save_model

INPUTS, OUTPUTS, GROUP = 32, 16, 8
ORDER = [0, 4, 1, 5, 2, 6, 3, 7]


class Layer(nn.Module):
    """A linear layer with nothing but its sizes."""

    def __init__(self, inputs: int = INPUTS, outputs: int = OUTPUTS) -> None:
        super().__init__()
        self.in_features, self.out_features = inputs, outputs


def packed(numbers: torch.Tensor) -> torch.Tensor:
    """Eight 4-bit numbers per int32, in AWQ's order."""
    words = torch.zeros(numbers.shape[0], numbers.shape[1] // 8, dtype=torch.int64)
    for place, source in enumerate(ORDER):
        # number `place` of a word stands in its nibble `source`
        words |= numbers.view(numbers.shape[0], -1, 8)[..., place].long() << (4 * source)
    return words.to(torch.int32)


class TestPlain:
    def test_linear(self):
        layer = nn.Linear(INPUTS, OUTPUTS)
        assert dense_weight(layer).data_ptr() == layer.weight.data_ptr()
        assert weight_format(layer) == "float32"

    def test_conv1d_multiplies_from_the_other_side(self):
        layer = Conv1D(OUTPUTS, INPUTS)
        assert torch.equal(dense_weight(layer), layer.weight.T)

    def test_integers_of_unknown_meaning(self):
        layer = Layer()
        layer.weight = nn.Parameter(torch.zeros(OUTPUTS, INPUTS, dtype=torch.int8), requires_grad=False)
        assert dense_weight(layer) is None
        assert weight_format(layer) == "unknown"

    def test_float8_alone_is_no_weight(self):
        layer = Layer()
        layer.weight = nn.Parameter(torch.zeros(OUTPUTS, INPUTS).to(torch.float8_e4m3fn), requires_grad=False)
        assert dense_weight(layer) is None


def test_awq():
    generator = torch.Generator().manual_seed(0)
    weight = torch.randint(0, 16, (INPUTS, OUTPUTS), generator=generator)
    zeros = torch.randint(0, 16, (INPUTS // GROUP, OUTPUTS), generator=generator)
    layer = Layer()
    layer.qweight, layer.qzeros = packed(weight), packed(zeros)
    layer.scales = torch.rand(INPUTS // GROUP, OUTPUTS, generator=generator)
    expected = (weight - zeros.repeat_interleave(GROUP, 0)) * layer.scales.repeat_interleave(GROUP, 0)
    torch.testing.assert_close(dense_weight(layer), expected.T)
    assert weight_format(layer) == "AWQ"


def test_a_kernel_that_repacked_awq_is_not_read_wrongly():
    layer = Layer()
    layer.qweight = torch.zeros(INPUTS // 16, OUTPUTS * 2, dtype=torch.int32)
    layer.qzeros, layer.scales = torch.zeros(1), torch.rand(INPUTS // GROUP, OUTPUTS)
    assert dense_weight(layer) is None


def test_gptq_is_read_by_its_own_method_even_if_it_is_square():
    layer = Layer(INPUTS, INPUTS)
    layer.qweight = torch.zeros(INPUTS // 8, INPUTS, dtype=torch.int32)
    from_left = torch.rand(INPUTS, INPUTS)
    layer.dequantize_weight = lambda: from_left
    assert torch.equal(dense_weight(layer), from_left.T)
    assert weight_format(layer) == "GPTQ"


def test_gptq_whose_kernel_cannot_be_read():
    layer = Layer()
    layer.qweight = torch.zeros(INPUTS // 8, OUTPUTS, dtype=torch.int32)

    def fail() -> torch.Tensor:
        raise NotImplementedError

    layer.dequantize_weight = fail
    assert dense_weight(layer) is None


def test_hqq():
    layer = Layer()
    layer.W_q = torch.zeros(1)
    weight = torch.rand(OUTPUTS, INPUTS)
    layer.dequantize = lambda: weight
    assert torch.equal(dense_weight(layer), weight)


@pytest.mark.parametrize("block", [None, (8, 8), (8, 12)])
def test_fine_grained_fp8(block):
    layer = Layer()
    weight = torch.randn(OUTPUTS, INPUTS).to(torch.float8_e4m3fn)
    layer.weight, layer.block_size = nn.Parameter(weight, requires_grad=False), block
    if block is None:
        layer.weight_scale_inv = torch.tensor(0.5)
        expected = weight.float() * 0.5
    else:
        shape = (-(-OUTPUTS // block[0]), -(-INPUTS // block[1]))
        layer.weight_scale_inv = torch.rand(shape)
        expected = torch.stack(
            [
                torch.stack(
                    [weight[i, j].float() * layer.weight_scale_inv[i // block[0], j // block[1]] for j in range(INPUTS)]
                )
                for i in range(OUTPUTS)
            ]
        )
    torch.testing.assert_close(dense_weight(layer), expected)


def test_int8():
    layer = Int8Linear.__new__(Int8Linear)
    nn.Module.__init__(layer)
    layer.weight = nn.Parameter(torch.tensor([[1, -2], [3, 4]], dtype=torch.int8), requires_grad=False)
    layer.scale = torch.tensor([0.5, 2.0])
    assert dense_weight(layer).tolist() == [[0.5, -1.0], [6.0, 8.0]]


def test_attribution_on_a_weight_that_cannot_be_read_is_refused_by_name():
    model = make_model("llama")
    down = model.model.layers[0].mlp.down_proj
    down.weight = nn.Parameter(down.weight.to(torch.float8_e4m3fn), requires_grad=False)
    with pytest.raises(UnsupportedModelError, match=r"layers\.0\.mlp\.down_proj .*score='activation'"):
        find_feed_forwards(model)[0].dense.down_weight()


class TestLoading:
    def folder(self, tmp_path, config):
        save_model(make_model("llama"), tmp_path)
        path = tmp_path / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"quantization_config": config}))
        return tmp_path

    @pytest.mark.parametrize("method", ["awq", "gptq"])
    def test_the_missing_package_is_named(self, tmp_path, method):
        folder = self.folder(tmp_path, {"quant_method": method, "bits": 4, "group_size": 128})
        with pytest.raises(MissingDependencyError, match=r"gptqmodel|optimum"):
            load_model(folder, device="cpu")

    def test_the_type_is_part_of_the_weights(self, tmp_path):
        folder = self.folder(tmp_path, {"quant_method": "awq", "bits": 4, "group_size": 128})
        with pytest.raises(ConfigurationError, match=r"quantized \(awq\) for torch\.float32"):
            load_model(folder, device="cpu", dtype="bfloat16")
