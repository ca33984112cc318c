"""Chat models over a tiny random model, for tests without weights."""

from pathlib import Path

from langchain_nad import NADChatModel

from nad_agents import LoadedModel, NeuronAgreementDecoder
from tests.tiny_models import byte_tokenizer, json_tokenizer, tiny_model

SAMPLING = {"n": 4, "max_tokens": 30, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "seed": 3}
NEURONS = {"top_k_neurons": 12, "top_k_neurons_per_layer": 12, "chunk_size": 8}


def one_layer_model(**options):
    """The least that generates: what an answer is made into does not depend on the depth."""
    return tiny_model("llama", num_hidden_layers=1, **options)


def tiny_decoder(model=None, tokenizer=None, **options):
    loaded = LoadedModel(model or one_layer_model(), tokenizer or byte_tokenizer(), "tiny", "folder", Path())
    return NeuronAgreementDecoder(loaded, **options)


def roomy_decoder():
    """With a context that holds schemas and descriptions of tools, a byte per token."""
    return tiny_decoder(model=one_layer_model(max_position_embeddings=8192))


def json_decoder():
    """As roomy, and with tokens for what calls and objects consist of, so that they take half as many."""
    tokenizer = json_tokenizer()
    return tiny_decoder(one_layer_model(max_position_embeddings=8192, vocab_size=len(tokenizer)), tokenizer)


def tiny_chat(**options):
    options = {"decoder": None, **SAMPLING, **NEURONS, **options}
    options["decoder"] = options["decoder"] or tiny_decoder()
    return NADChatModel(**options)


def fail_first(model, times):
    """Let a model's next forward passes fail; returns a list that makes more of them fail as it grows."""
    forward, failures = model.forward, [1] * times

    def flaky(*args, **kwargs):
        if failures:
            failures.pop()
            raise RuntimeError("out of memory")
        return forward(*args, **kwargs)

    model.forward = flaky
    return failures
