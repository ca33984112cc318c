"""Neurons recorded on quantized models are those of the written formula on the same model."""

import pytest
import torch

from nad_agents.engine.base import GenerationRequest
from nad_agents.engine.hf.engine import HFEngine
from nad_agents.exceptions import ConfigurationError
from nad_agents.models import load_model
from nad_agents.neurons.architectures import find_feed_forwards
from nad_agents.neurons.recording_config import RecordingConfig
from nad_agents.types import SamplingConfig
from tests.quantized_models import METHODS

TOP_K, PER_LAYER = 20, 12

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")


@pytest.fixture(scope="module", params=METHODS)
def quantized(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("quantized")
    METHODS[request.param](folder)
    return load_model(folder, device="cpu")


def formula_scores(model, ids, score):
    """[T, layers, d_ff] of a teacher-forced forward; position t emits ids[t + 1]."""
    layers, inputs = model.model.layers, {}
    hooks = [
        layer.mlp.register_forward_pre_hook(lambda _m, x, i=i: inputs.__setitem__(i, x[0]))
        for i, layer in enumerate(layers)
    ]
    with torch.no_grad():
        model(input_ids=torch.tensor([ids]))
        for hook in hooks:
            hook.remove()
        scores = []
        for i, layer in enumerate(layers):
            h = layer.mlp.act_fn(layer.mlp.gate_proj(inputs[i])) * layer.mlp.up_proj(inputs[i])
            h = h[0, :-1]
            if score == "attribution":
                # what the projection makes of one neuron at a time
                down = layer.mlp.down_proj(torch.eye(h.shape[-1], dtype=h.dtype))
                scores.append(h * (model.lm_head.weight[torch.tensor(ids[1:])] @ down.T))
            else:
                scores.append(h.abs())
    return torch.stack(scores, dim=1).float()


def check_top(recorded, scores, tolerance):
    """The recorded neurons are the best of the best of each layer, up to a tolerance of the scores."""
    n_layers, d_ff = scores.shape
    assert len(set(recorded.tolist())) == TOP_K
    of_layer = scores.topk(PER_LAYER, dim=-1).values
    least = of_layer.flatten().topk(TOP_K).values[-1]
    chosen = scores.flatten()[torch.tensor(recorded)]
    assert chosen.min() >= least - tolerance
    for layer in range(n_layers):
        mine = chosen[torch.tensor(recorded) // d_ff == layer]
        assert mine.numel() <= PER_LAYER
        assert mine.numel() == 0 or mine.min() >= of_layer[layer, -1] - tolerance


@pytest.mark.parametrize("score", ["activation", "attribution"])
def test_recorded_neurons_are_those_of_the_formula(quantized, score):
    model, tokenizer = quantized.model, quantized.tokenizer
    engine = HFEngine(model, tokenizer)
    prompt = tokenizer("def add(a, b):")["input_ids"]
    recording = RecordingConfig(score=score, top_k=TOP_K, per_layer_top=PER_LAYER)
    sampling = SamplingConfig(n=2, max_new_tokens=16, temperature=1.0, top_k=0, top_p=1.0, seed=11)
    generation = engine.start(GenerationRequest(prompt, sampling, recording))
    while generation.live:
        engine.step(8)
    for rollout in generation.group().rollouts:
        scores = formula_scores(model, prompt + rollout.token_ids.tolist(), score)
        # inputs that are quantized for each product differ between one row and several
        tolerance = 0.02 * float(scores.max())
        for t, neurons in enumerate(rollout.neurons):
            check_top(neurons, scores[len(prompt) - 1 + t], tolerance)


def test_the_weight_is_what_the_projection_multiplies_by(quantized):
    down = find_feed_forwards(quantized.model)[0].dense
    with torch.no_grad():
        product = down.down(torch.eye(down.d_ff, dtype=quantized.model.dtype))
    for _ in range(2):
        weight = down.down_weight()
        assert weight.shape == (64, 128)
        torch.testing.assert_close(weight, product.T.to(weight.dtype), rtol=0.01, atol=0.01 * float(weight.abs().max()))


def test_another_quantization_on_top_is_refused(tmp_path):
    METHODS["fp8"](tmp_path)
    with pytest.raises(ConfigurationError, match=r"quantized already \(fp8\)"):
        load_model(tmp_path, device="cpu", dtype="int8")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_fp8_is_dequantized_on_a_cpu(tmp_path, dtype):
    METHODS["fp8"](tmp_path)
    loaded = load_model(tmp_path, device="cpu", dtype=dtype)
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {getattr(torch, dtype)}
    assert loaded.quantization is None
