"""The recorded sets of every family are those of the written formulas, or the family is refused by name."""

import pytest
import torch

from nad_agents.exceptions import UnsupportedModelError
from nad_agents.neurons.architectures import decoder_layers, find_feed_forwards, find_unembedding, verify_feed_forwards
from nad_agents.neurons.recorder import activated_neurons, neuron_layout
from nad_agents.neurons.recording_config import RecordingConfig
from nad_agents.neurons.tap import ActivationTap
from tests.model_families import FAMILIES, MULTIMODAL, family_model
from tests.unit.neurons.feed_forward_formulas import assert_is_top, formula_layers

TOP_K, PER_LAYER = 20, 12
IDS = [7, 250, 31, 99, 4, 180, 66, 12, 201, 45, 77, 128]

every_family = pytest.mark.parametrize("family", [*FAMILIES, *MULTIMODAL], ids=lambda family: family.name)


def record(model, blocks, ids, config, unembedding=None):
    """The activated neurons of every position but the last in one forward pass, a step with a row for each."""
    with ActivationTap(model, blocks) as tap:
        tap.open(len(ids), 1, (0, len(blocks)), dtype=torch.float32, device=torch.device("cpu"), limit=2**20)
        with torch.no_grad():
            model(input_ids=torch.tensor([ids]), use_cache=False)
        tap.next_step()
        layers = tap.take()
    emitted = torch.tensor([[*ids[1:], ids[0]]])
    layout = neuron_layout(blocks, config)
    return activated_neurons(layers, emitted, config, layout, blocks, unembedding=unembedding)[0, :-1]


@every_family
def test_recorded_sets_are_those_of_the_formula(family):
    model = family_model(family.name)
    blocks = verify_feed_forwards(model, find_feed_forwards(model))
    layers = formula_layers(model, decoder_layers(model)[1], IDS)
    assert len(layers) == len(blocks)
    d_ff = neuron_layout(blocks, RecordingConfig()).d_ff
    for score, router_weights in (("activation", True), ("activation", False), ("attribution", True)):
        config = RecordingConfig(score, TOP_K, PER_LAYER, router_weights=router_weights)
        unembedding = None
        if score == "attribution":
            if not family.attribution:
                with pytest.raises(UnsupportedModelError, match="score='activation'"):
                    blocks[0].check_attribution()
                continue
            unembedding = find_unembedding(model)
        recorded = record(model, blocks, IDS, config, unembedding)
        rows = model.get_output_embeddings().weight[[*IDS[1:], IDS[0]]]
        scores = [layer.scores(score, rows, router_weights) for layer in layers]
        for t in range(len(IDS) - 1):
            candidates = [(layer.numbers[t], values[t]) for layer, values in zip(layers, scores, strict=True)]
            assert_is_top(recorded[t], candidates, d_ff, TOP_K, PER_LAYER)
