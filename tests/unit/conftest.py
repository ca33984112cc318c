"""Fixtures of the asynchronous tests."""

import pytest
from blockbuster import BlockBuster


@pytest.fixture
def blocking_is_an_error():
    guard = BlockBuster()
    guard.activate()
    yield
    guard.deactivate()
