"""Inspect in a process that runs other tests as well."""

import gc
import warnings
from contextlib import contextmanager


@contextmanager
def contained_inspect(monkeypatch):
    """Keep Inspect from fetching files, from changing asyncio for good, and from leaving its streams to later tests."""
    # it would fetch a tokenizer from the network to estimate the length of prompts
    monkeypatch.setattr("inspect_ai.model._model.count_text_tokens", len)
    # nest_asyncio replaces asyncio.run by a function that leaves its event loops open
    monkeypatch.setattr("inspect_ai._util._async._initialised_nest_asyncio", True)
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
