"""The recorded sets of every family are those of the written formulas, or the family is refused by name."""

import pytest
import torch

from nad_agents import NADConfig, NeuronAgreementDecoder, SamplingConfig
from nad_agents.exceptions import UnsupportedModelError
from nad_agents.models import load_model
from nad_agents.neurons.architectures import decoder_layers, find_feed_forwards, verify_feed_forwards
from nad_agents.neurons.recorder import activated_neurons, neuron_layout
from nad_agents.neurons.recording_config import RecordingConfig
from nad_agents.neurons.tap import ActivationTap
from tests.family_checks import PER_LAYER, RECORDED, TOP_K, assert_decoding_records_the_formula, others
from tests.feed_forward_formulas import assert_is_top, formula_layers
from tests.model_families import ABSENT, FAMILIES, MIXTURES, MULTIMODAL, REFUSED, family_model
from tests.model_families_page import PAGE, page
from tests.tiny_models import make_model, save_model

IDS = [7, 250, 31, 99, 4, 180, 66, 12, 201, 45, 77, 128]


def record(model, blocks, ids, config):
    """The activated neurons of every position but the last in one forward pass, a step with a row for each."""
    with ActivationTap(model, blocks) as tap:
        tap.open(len(ids), 1, (0, len(blocks)), dtype=torch.float32, device=torch.device("cpu"), limit=2**20)
        with torch.no_grad():
            model(input_ids=torch.tensor([ids]), use_cache=False)
        tap.next_step()
        layers = tap.take()
    emitted = torch.tensor([[*ids[1:], ids[0]]])
    layout = neuron_layout(blocks, config)
    return activated_neurons(layers, emitted, config, layout, blocks)[0, :-1]


@pytest.mark.parametrize("family", [*FAMILIES, *MULTIMODAL], ids=lambda family: family.name)
def test_recorded_sets_are_those_of_the_formula(family):
    model = family_model(family.name)
    blocks = verify_feed_forwards(model, find_feed_forwards(model))
    layers = formula_layers(model, decoder_layers(model)[1], IDS)
    assert len(layers) == len(blocks)
    if not family.attribution:
        with pytest.raises(UnsupportedModelError, match="score='activation'"):
            blocks[0].check_attribution()
    # decoding with the other scores is tested with the recorder
    config = RecordingConfig("activation", TOP_K, PER_LAYER, router_weights=False)
    recorded = record(model, blocks, IDS, config)
    scores = [layer.scores("activation", None, router_weights=False) for layer in layers]
    d_ff = neuron_layout(blocks, config).d_ff
    for t in range(len(IDS) - 1):
        candidates = [(layer.numbers[t], values[t]) for layer, values in zip(layers, scores, strict=True)]
        assert_is_top(recorded[t], candidates, d_ff, TOP_K, PER_LAYER)


@pytest.mark.parametrize("name", others((family.name for family in (*FAMILIES, *MULTIMODAL)), RECORDED))
def test_decoding_records_what_one_forward_over_the_sequence_computes(name):
    assert_decoding_records_the_formula(name)


@pytest.mark.parametrize("family", MULTIMODAL, ids=lambda family: family.name)
def test_the_text_decoder_of_a_multimodal_model_is_loaded_from_its_folder(family, tmp_path):
    save_model(family_model(family.name), tmp_path)
    loaded = load_model(tmp_path, device="cpu", dtype="float32")
    selection = NeuronAgreementDecoder(loaded).decode(
        "hello",
        sampling=SamplingConfig(n=3, max_new_tokens=6, seed=1),
        config=NADConfig(top_k_neurons=12, top_k_neurons_per_layer=6),
    )
    assert [candidate.activated_neurons > 0 for candidate in selection.candidates] == [True] * 3


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("family", MIXTURES, ids=lambda family: family.name)
def test_recording_experts_computes_what_the_library_computes(family, grouped, monkeypatch):
    """With a loop over the experts, and with the kernel for all of them that GPUs use."""
    monkeypatch.setattr("nad_agents.neurons.experts._can_group", lambda _weight: grouped)
    model, ids = family_model(family.name), torch.tensor([IDS])
    before = model.get_experts_implementation()
    try:
        model.set_experts_implementation("eager")
        with torch.no_grad():
            eager = model(input_ids=ids, use_cache=False).logits
            with ActivationTap(model):
                recorded = model(input_ids=ids, use_cache=False).logits
    finally:
        model.set_experts_implementation(before)
    torch.testing.assert_close(recorded, eager, rtol=1e-4, atol=1e-5)


def test_the_page_about_families_is_current():
    absent = tuple(f"| {family.name} |" for family in ABSENT)
    lines = PAGE.read_text(encoding="utf-8").splitlines(keepends=True)
    known = "".join(line for line in lines if not line.startswith(absent))
    assert known == page(), "run python -m tests.model_families_page"


@pytest.mark.parametrize("family", REFUSED, ids=lambda family: family.name)
def test_families_of_another_structure_are_refused_by_name(family):
    model = make_model(family.architecture, **family.options)
    with pytest.raises(UnsupportedModelError, match="layer ") as caught:
        verify_feed_forwards(model, find_feed_forwards(model))
    assert type(model).__name__ in str(caught.value)
    assert "record=False" in str(caught.value)
