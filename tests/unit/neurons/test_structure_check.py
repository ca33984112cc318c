"""Experts while they are recorded, and models whose layers compute something beside the neurons that were found."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from nad_agents import SamplingConfig
from nad_agents.engine.base import GenerationRequest
from nad_agents.engine.hf.engine import HFEngine
from nad_agents.exceptions import RecordingError, UnsupportedModelError
from nad_agents.neurons.architectures import find_feed_forwards, verify_feed_forwards
from nad_agents.neurons.experts import RECORDING_EXPERTS
from nad_agents.neurons.recorder import neuron_layout
from nad_agents.neurons.recording_config import RecordingConfig
from nad_agents.neurons.tap import ActivationTap
from tests.model_families import FAMILIES, family_model
from tests.tiny_models import byte_tokenizer, make_model


class TestExperts:
    @pytest.mark.parametrize("implementation", ["eager", "grouped_mm", "batched_mm"])
    def test_the_users_implementation_comes_back(self, implementation):
        model = family_model("Qwen 3 MoE")
        before = model.get_experts_implementation()
        try:
            model.set_experts_implementation(implementation)
            with pytest.raises(ZeroDivisionError), ActivationTap(model):
                assert 1 / (model.config._experts_implementation != RECORDING_EXPERTS)
            assert model.config._experts_implementation == implementation
        finally:
            model.set_experts_implementation(before)

    def test_only_the_experts_of_a_token_are_held(self):
        model = family_model("Qwen 2 MoE")
        blocks = find_feed_forwards(model)
        with ActivationTap(model, blocks) as tap:
            tap.open(4, 3, (0, len(blocks)), dtype=torch.float32, device=torch.device("cpu"), limit=2**20)
            # 2 of 6 experts of 16 neurons, and a shared one of 24
            assert [layer.values.shape for layer in tap.take()] == [(0, 4, 2 * 16 + 24)] * len(blocks)
            assert tap._memory.numel() == 3 * 4 * len(blocks) * (2 * 16 + 24)
        assert neuron_layout(blocks, RecordingConfig()).d_ff == 6 * 16 + 24

    def test_more_neurons_than_an_int32_numbers_are_refused(self):
        block = find_feed_forwards(family_model("Mixtral"))[0]
        wide = replace(block, owners=(replace(block.owners[0], routed=replace(block.routed, n_experts=2**24)),))
        with pytest.raises(UnsupportedModelError, match="record at most 2 of them"):
            neuron_layout([wide] * 3, RecordingConfig())
        assert neuron_layout([wide] * 3, RecordingConfig(layers=(0, 2))).n_neurons > 2**30


class Packed(torch.Tensor):
    """As quantization packages make them: they say that they are floats."""


class TestRefusals:
    """Whatever a layer computes beside the neurons found, the model is refused by name."""

    def refused(self, model, match):
        with pytest.raises(UnsupportedModelError, match=match) as caught:
            verify_feed_forwards(model, find_feed_forwards(model))
        assert type(model).__name__ in str(caught.value)
        assert "record=False" in str(caught.value)

    @pytest.mark.parametrize("where", ["", ".mlp", ".mlp.shared_expert"])
    def test_a_matrix_of_unknown_purpose(self, where):
        model = make_model("qwen2_moe", **next(f.options for f in FAMILIES if f.name == "Qwen 2 MoE"))
        model.get_submodule(f"model.layers.1{where}").add_module("extra", nn.Linear(32, 32))
        self.refused(model, r"layer 1 of .*model\.layers\.1\.\S+")

    def test_a_block_that_adds_something_else(self):
        model = make_model("llama")
        model.model.layers[2].mlp.register_forward_hook(lambda _m, _x, output: output * 1.1)
        self.refused(model, r"model\.layers\.2\.mlp \(LlamaMLP\) do not account for its output")

    def test_experts_whose_router_weight_is_not_what_multiplies_them(self):
        model = make_model("mixtral", num_local_experts=6, num_experts_per_tok=2)
        model.model.layers[0].mlp.experts.register_forward_hook(lambda _m, _x, output: output.square())
        self.refused(model, r"model\.layers\.0\.mlp")

    def test_a_block_that_runs_twice(self):
        model = make_model("llama")
        layers = model.model.layers
        layers[1].mlp = layers[0].mlp
        self.refused(model, "run 2 times in a forward pass")

    def test_a_feed_forward_block_inside_a_token_mixer(self):
        model = make_model("llama")
        model.model.layers[0].self_attn.add_module("mlp", nn.Linear(32, 32))
        self.refused(model, "token mixer .* has a feed-forward block inside")

    def test_two_feed_forward_blocks_in_one_layer(self):
        model = make_model("llama")
        model.model.layers[0].add_module("second", make_model("llama").model.layers[0].mlp)
        self.refused(model, "several feed-forward blocks")

    @pytest.mark.parametrize(
        "quantize", [lambda weight: weight.to(torch.float8_e4m3fn), lambda weight: weight.as_subclass(Packed)]
    )
    def test_quantized_experts(self, quantize):
        model = make_model("mixtral", num_local_experts=6, num_experts_per_tok=2)
        experts = model.model.layers[0].mlp.experts
        experts.down_proj = nn.Parameter(quantize(experts.down_proj.data), requires_grad=False)
        self.refused(model, r"experts \(MixtralExperts\) are of an unknown or quantized kind")

    @pytest.mark.parametrize("flag", ["has_post_expert_norm", "_is_expert_parallel"])
    def test_experts_whose_output_is_more_than_their_down_projections(self, flag):
        model = make_model("mixtral", num_local_experts=6, num_experts_per_tok=2)
        setattr(model.model.layers[2].mlp.experts, flag, True)
        self.refused(model, r"layer 2 of .*model\.layers\.2\.mlp\.experts")

    def test_attribution_with_a_weight_that_is_not_what_multiplies(self):
        model = make_model("llama")
        down = model.model.layers[1].mlp.down_proj
        adapter = torch.randn_like(down.weight)
        down.register_forward_hook(lambda _m, x, output: output + x[0] @ adapter.T)
        blocks = verify_feed_forwards(model, find_feed_forwards(model))
        blocks[0].check_attribution()
        with pytest.raises(UnsupportedModelError, match=r"layers\.1\.mlp\.down_proj is not the matrix .*'activation'"):
            blocks[1].check_attribution()

    @pytest.mark.parametrize("recording", [RecordingConfig(), RecordingConfig("attribution")])
    def test_the_engine_refuses_before_it_reads_the_prompt(self, recording):
        engine = HFEngine(make_model("mamba"), byte_tokenizer())
        with pytest.raises(UnsupportedModelError, match="record=False"):
            engine.start(GenerationRequest([1, 2], SamplingConfig(n=2, seed=0), recording))
        assert engine.rows == 0

    def test_a_step_in_which_a_block_did_not_run(self):
        model = family_model("Mixtral")
        with ActivationTap(model) as tap:
            tap.open(1, 2, (0, 3), dtype=torch.float32, device=torch.device("cpu"), limit=2**20)
            with torch.no_grad():
                model.model.layers[0].mlp(torch.zeros(1, 1, 32))
            with pytest.raises(RecordingError, match="ran 1 feed-forward blocks and not 3"):
                tap.next_step()
