"""The real default model, loaded once."""

import pytest

from nad_agents import NeuronAgreementDecoder, load_model


@pytest.fixture(scope="session")
def default_model():
    return load_model(dtype="float32")


@pytest.fixture(scope="session")
def default_decoder(default_model):
    return NeuronAgreementDecoder(default_model)
