"""Chat models over a tiny random model, for tests without weights."""

from pathlib import Path

from langchain_nad import NADChatModel

from nad_agents import LoadedModel, NeuronAgreementDecoder
from tests.tiny_models import byte_tokenizer, make_model, tiny_model

SAMPLING = {"n": 4, "max_tokens": 40, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "seed": 3}
NEURONS = {"top_k_neurons": 12, "top_k_neurons_per_layer": 6, "chunk_size": 8}


def tiny_decoder(family="llama", model=None, tokenizer=None, **options):
    loaded = LoadedModel(model or tiny_model(family), tokenizer or byte_tokenizer(), "tiny", "folder", Path())
    return NeuronAgreementDecoder(loaded, **options)


def roomy_decoder():
    """With a context that holds schemas and descriptions of tools, a byte per token."""
    return tiny_decoder(model=make_model("llama", max_position_embeddings=8192))


def tiny_chat(**options):
    options = {"decoder": None, **SAMPLING, **NEURONS, **options}
    options["decoder"] = options["decoder"] or tiny_decoder()
    return NADChatModel(**options)
