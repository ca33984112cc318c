"""The real default model, loaded once, and servers that end with the test that starts them."""

from contextlib import ExitStack

import pytest

from nad_agents import NeuronAgreementDecoder, load_model
from tests.integration.servers import Server


@pytest.fixture(scope="session")
def default_model():
    return load_model(dtype="float32")


@pytest.fixture(scope="session")
def default_decoder(default_model):
    return NeuronAgreementDecoder(default_model)


@pytest.fixture
def start_server():
    """Starts `nad serve` with the given options; the process ends with the test, whatever the test's outcome."""
    with ExitStack() as servers:
        yield lambda *options, **settings: servers.enter_context(Server(*options, **settings))
