"""Generations on an engine without a scheduler."""

from tests.tiny_models import byte_tokenizer


def ids(text):
    return byte_tokenizer()(text)["input_ids"]


def run(engine, *requests, chunk=32):
    generations = [engine.start(request) for request in requests]
    while any(g.live and g.error is None for g in generations):
        engine.step(chunk)
    groups = [g.group() for g in generations]
    for g in generations:
        engine.release(g)
    assert engine.rows == 0
    return groups
