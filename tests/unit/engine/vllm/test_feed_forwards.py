"""Down projections are found by structure in models built of linear layers as vLLM has them."""

import pytest
from torch import nn

from nad_agents.engine.vllm.feed_forwards import find_down_projections
from nad_agents.exceptions import UnsupportedModelError
from tests.unit.engine.vllm.layers import HIDDEN, WIDTH, Linear, LinearWithLoRA, layer, model


@pytest.mark.parametrize(
    "mlp",
    [
        {"gate_up_proj": Linear(HIDDEN, 2 * WIDTH), "down_proj": Linear(WIDTH, HIDDEN)},
        {"gate_proj": Linear(HIDDEN, WIDTH), "up_proj": Linear(HIDDEN, WIDTH), "down_proj": Linear(WIDTH, HIDDEN)},
        {"fc1": Linear(HIDDEN, WIDTH), "fc2": Linear(WIDTH, HIDDEN)},
    ],
    ids=["merged", "gated", "plain"],
)
def test_the_down_projection_of_every_kind_is_found(mlp):
    stack = model([layer(mlp), layer(mlp)])
    found = find_down_projections(stack, n_layers=2, hidden_size=HIDDEN)
    assert [one.layer for one in found] == [0, 1]
    assert [(one.d_ff, one.local_width, one.first_neuron) for one in found] == [(WIDTH, WIDTH, 0)] * 2
    assert all(one.module is mlp[list(mlp)[-1]] for one in found)


def test_attention_and_state_space_mixers_are_no_feed_forward():
    # half as many heads for keys and values: the shapes of a merged block
    attention = {"qkv_proj": Linear(HIDDEN, 2 * HIDDEN), "o_proj": Linear(HIDDEN, HIDDEN)}
    mixer = {
        "conv1d": Linear(4, WIDTH),
        "in_proj": Linear(HIDDEN, 2 * WIDTH),
        "out_proj": Linear(WIDTH, HIDDEN),
    }
    stack = model([nn.ModuleDict({"self_attn": nn.ModuleDict(attention), "mixer": nn.ModuleDict(mixer)})])
    with pytest.raises(UnsupportedModelError, match="layer 0 of Model has no feed-forward block of a known kind"):
        find_down_projections(stack, n_layers=1, hidden_size=HIDDEN)


def test_a_worker_of_several_knows_which_neurons_are_its_own():
    down = Linear(WIDTH, HIDDEN, parts=4, rank=3)
    stack = model([layer({"gate_up_proj": Linear(HIDDEN, 2 * WIDTH), "down_proj": down})])
    (found,) = find_down_projections(stack, n_layers=1, hidden_size=HIDDEN)
    assert (found.d_ff, found.local_width, found.first_neuron) == (WIDTH, WIDTH // 4, 3 * WIDTH // 4)


def test_layers_with_adapters_have_the_sizes_of_the_layers_inside_and_are_called_themselves():
    up = LinearWithLoRA(Linear(HIDDEN, 2 * WIDTH))
    down = LinearWithLoRA(Linear(WIDTH, HIDDEN, parts=4, rank=3))
    (found,) = find_down_projections(
        model([layer({"gate_up_proj": up, "down_proj": down})]), n_layers=1, hidden_size=HIDDEN
    )
    assert (found.d_ff, found.local_width, found.first_neuron) == (WIDTH, WIDTH // 4, 3 * WIDTH // 4)
    assert found.module is down


@pytest.mark.parametrize("name", ["FusedMoE", "MoERunner", "RoutedExperts", "SharedExperts"])
def test_a_mixture_of_experts_is_refused_by_name_whatever_the_version_calls_it(name):
    experts = type("Special" + name, (type(name, (nn.Module,), {}),), {})()
    # a shared expert beside the routed ones has the shapes of a dense block
    stack = model(
        [layer({"gate_up_proj": Linear(HIDDEN, 2 * WIDTH), "down_proj": Linear(WIDTH, HIDDEN), "experts": experts})]
    )
    with pytest.raises(UnsupportedModelError, match="layer 0 of Model is a mixture of experts"):
        find_down_projections(stack, n_layers=1, hidden_size=HIDDEN)


def test_a_model_without_the_stack_of_its_config_is_refused():
    with pytest.raises(UnsupportedModelError, match="no list of 5 decoder layers"):
        find_down_projections(model([]), n_layers=5, hidden_size=HIDDEN)
