"""Fixtures that tests of several rooms use."""

import pytest

# what the fixtures need is imported by them, since the process that only distributes the tests reads this file too


@pytest.fixture
def blocking_is_an_error():
    """Blocking calls on the event loop raise."""
    from blockbuster import BlockBuster

    guard = BlockBuster()
    guard.activate()
    yield
    guard.deactivate()


@pytest.fixture(scope="session")
def selection():
    """A selection whose text a test replaces."""
    from nad_agents import SamplingConfig
    from tests.unit.decoders import decoder

    return decoder().decode("hello", sampling=SamplingConfig(n=2, max_new_tokens=2, top_k=0))
