"""What Inspect's tests share."""

import gc
import warnings

import pytest


@pytest.fixture(autouse=True)
def tokens_are_estimated_offline(monkeypatch):
    """Inspect would fetch a tokenizer from the network to estimate the length of prompts."""
    monkeypatch.setattr("inspect_ai.model._model.count_text_tokens", len)


@pytest.fixture(scope="session", autouse=True)
def streams_left_open():
    """Inspect leaves streams of its own for the garbage collector, which must not find them after the last test."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.unfreeze()
        gc.collect()
