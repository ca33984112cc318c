"""Generations on an engine without a scheduler."""

import torch

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


def teacher_forced(model, prompt, tokens):
    """The log-probabilities of a candidate's tokens by one forward pass over the whole text."""
    sequence = torch.tensor([[*prompt, *tokens]])
    with torch.inference_mode():
        logprobs = model(sequence).logits[0, -len(tokens) - 1 : -1].float().log_softmax(-1)
    return logprobs.gather(-1, sequence[0, -len(tokens) :, None])[:, 0]
