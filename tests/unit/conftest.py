"""Fixtures that tests of several rooms use."""

import pytest
from blockbuster import BlockBuster

from nad_agents import SamplingConfig
from tests.unit.decoders import decoder


@pytest.fixture
def blocking_is_an_error():
    """Blocking calls on the event loop raise."""
    guard = BlockBuster()
    guard.activate()
    yield
    guard.deactivate()


@pytest.fixture(scope="session")
def selection():
    """A selection whose text a test replaces."""
    return decoder().decode("hello", sampling=SamplingConfig(n=2, max_new_tokens=2, top_k=0))
