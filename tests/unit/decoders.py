"""Decoders over a tiny random model."""

from pathlib import Path

from nad_agents import NADConfig, NeuronAgreementDecoder, SamplingConfig
from nad_agents.models import LoadedModel
from tests.tiny_models import byte_tokenizer, tiny_model

SAMPLING = SamplingConfig(n=5, max_new_tokens=36, temperature=1.0, top_k=0, top_p=1.0, seed=3)

NEURONS = {"top_k_neurons": 12, "top_k_neurons_per_layer": 6, "chunk_size": 16}


def loaded(model=None, *, chat=True):
    return LoadedModel(model or tiny_model(num_hidden_layers=2), byte_tokenizer(chat=chat), "tiny", "folder", Path())


def decoder(**options):
    options = {"sampling": SAMPLING, "config": NADConfig(**NEURONS), **options}
    return NeuronAgreementDecoder(options.pop("loaded", None) or loaded(), **options)
