"""Generations on an engine without a scheduler."""

from nad_agents.engine.base import GenerationRequest
from tests.tiny_models import byte_tokenizer


def seeded(prompt_ids, sampling, seed=0, recording=None, **options):
    return GenerationRequest(prompt_ids, sampling.model_copy(update={"seed": seed}), recording, **options)


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
