"""Neurons recorded on quantized models are those of the written formula on the same model."""

from itertools import product

import pytest
import safetensors.torch
import torch

from nad_agents.engine.base import GenerationRequest
from nad_agents.engine.hf.engine import HFEngine
from nad_agents.exceptions import ConfigurationError, ModelLoadError
from nad_agents.models import load_model
from nad_agents.neurons.architectures import find_feed_forwards, verify_feed_forwards
from nad_agents.neurons.recording_config import RecordingConfig
from nad_agents.types import SamplingConfig
from tests.adapters import write_adapter
from tests.quantized_models import METHODS, mxfp4_weight, plain_model, save_fp8, save_mxfp4

TOP_K, PER_LAYER = 20, 12

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")


UNREAD = ("compressed-tensors w8a8", "mixture")
"""What transformers cannot load: experts of eight-bit integers."""
QUANTIZED = [pair for pair in product(METHODS, ("dense", "adapter", "mixture")) if pair != UNREAD]


@pytest.fixture(
    scope="module",
    params=QUANTIZED,
    ids=[", ".join(pair) for pair in QUANTIZED],
)
def quantized(request, tmp_path_factory):
    """A quantized model: without more, with an adapter, or with routed experts."""
    method, variant = request.param
    folder = tmp_path_factory.mktemp("quantized")
    METHODS[method](folder / "model", plain_model(mixture=variant == "mixture"))
    if variant != "adapter":
        return load_model(folder / "model", device="cpu")
    write_adapter(plain_model(), folder / "lora")
    return load_model(folder / "model", adapter=folder / "lora", device="cpu")


def formula_scores(model, ids, score):
    """[T, layers, d_ff] of a teacher-forced forward; position t emits ids[t + 1]."""
    inputs = {}
    implementation = model.get_experts_implementation()
    model.set_experts_implementation("eager")
    hooks = [
        module.register_forward_pre_hook(
            lambda module, args, named: inputs.__setitem__(module, (*args, *named.values())), with_kwargs=True
        )
        for module in model.model.layers.modules()
    ]
    with torch.no_grad():
        model(input_ids=torch.tensor([ids]))
        for hook in hooks:
            hook.remove()
        model.set_experts_implementation(implementation)
        scores = []
        for layer in model.model.layers:
            h, directions = (mixture if hasattr(layer.mlp, "experts") else dense)(layer.mlp, inputs)
            h = h[:-1]
            if score == "attribution":
                scores.append(h * (model.lm_head.weight[torch.tensor(ids[1:])] @ directions.T))
            else:
                scores.append(h.abs())
    return torch.stack(scores, dim=1).float()


def dense(mlp, inputs):
    """Activations [T, f], and what one neuron at a time gives, [f, d]."""
    (x,) = inputs[mlp]
    h = (mlp.act_fn(mlp.gate_proj(x)) * mlp.up_proj(x)).flatten(0, -2)
    return h, mlp.down_proj(torch.eye(h.shape[-1], dtype=h.dtype))


def mixture(mlp, inputs):
    """The same, times the weights, for all routed experts and the shared one after them."""
    x, index, weights = inputs[mlp.experts]
    gate, up = torch.einsum("td,efd->tef", x, mlp.experts.gate_up_proj).chunk(2, dim=-1)
    router = x.new_zeros(len(x), mlp.experts.num_experts).scatter(1, index, weights.to(x.dtype))
    routed = mlp.experts.act_fn(gate) * up * router[..., None]
    shared, directions = dense(mlp.shared_expert, inputs)
    shared = shared * mlp.shared_expert_gate(x).sigmoid()
    down = mlp.experts.down_proj.transpose(1, 2).flatten(0, 1)
    return torch.cat([routed.flatten(1), shared], 1), torch.cat([down, directions])


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
    recording = RecordingConfig(score=score, top_k_neurons=TOP_K, top_k_neurons_per_layer=PER_LAYER)
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
    save_fp8(tmp_path, plain_model())
    with pytest.raises(ConfigurationError, match=r"quantized already \(fp8\)"):
        load_model(tmp_path, device="cpu", dtype="int8")


def test_experts_that_transformers_cannot_load_are_refused(tmp_path):
    METHODS[UNREAD[0]](tmp_path, plain_model(mixture=True))
    with pytest.raises(ModelLoadError, match=r"the weights of .* cannot be read"):
        load_model(tmp_path, device="cpu")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("method", [method for method in METHODS if method.startswith(("fp8", "compressed-tensors"))])
def test_some_methods_compute_in_any_type(tmp_path, method, dtype):
    METHODS[method](tmp_path, plain_model())
    loaded = load_model(tmp_path, device="cpu", dtype=dtype)
    assert loaded.dtype == getattr(torch, dtype)
    if method == "fp8":  # which is dequantized on a CPU
        assert {parameter.dtype for parameter in loaded.model.parameters()} == {getattr(torch, dtype)}
        assert loaded.quantization is None


def test_the_four_bit_experts_of_gpt_oss_are_dequantized_on_a_cpu_and_recorded(tmp_path):
    save_mxfp4(tmp_path)
    stored = safetensors.torch.load_file(tmp_path / "model.safetensors")
    model = load_model(tmp_path, device="cpu", dtype="float32").model
    for index, layer in enumerate(model.model.layers):
        for name in ("gate_up_proj", "down_proj"):
            key = f"model.layers.{index}.mlp.experts.{name}"
            expected = mxfp4_weight(stored[f"{key}_blocks"], stored[f"{key}_scales"])
            torch.testing.assert_close(layer.mlp.experts.get_parameter(name), expected)
    verify_feed_forwards(model, find_feed_forwards(model))
