"""The public tiny model is a real one."""

import pytest

from nad_agents import NeuronAgreementDecoder, SamplingConfig
from nad_agents.testing import byte_tokenizer, tiny_model


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_a_tiny_model_really_decodes(architecture):
    decoder = NeuronAgreementDecoder(tiny_model(architecture, num_hidden_layers=2))
    found = decoder.decode("hello", sampling=SamplingConfig(n=3, max_new_tokens=6, seed=1))
    assert (found.model, len(found.candidates)) == (f"tiny-{architecture}", 3)
    assert all(candidate.activated_neurons for candidate in found.candidates)


def test_the_seed_makes_the_weights():
    def weights(seed):
        return tiny_model(num_hidden_layers=1, seed=seed).model.get_output_embeddings().weight

    assert weights(1).equal(weights(1))
    assert not weights(1).equal(weights(2))


def test_the_tokenizer_has_a_token_per_byte():
    tokenizer = byte_tokenizer()
    ids = tokenizer("é!")["input_ids"]
    assert (len(tokenizer), len(ids), tokenizer.decode(ids)) == (257, 3, "é!")
    assert byte_tokenizer(chat_template=None).chat_template is None
