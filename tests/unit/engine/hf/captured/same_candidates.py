"""Engines with captured steps, and how close their candidates have to be to those of the model's own steps."""

import numpy as np

from nad_agents.engine.hf.engine import HFEngine
from tests.tiny_models import byte_tokenizer


def engine(model, **options):
    return HFEngine(model, byte_tokenizer(), **{"compile": True, **options})


def assert_same(own, captured):
    for one, other in zip(own.rollouts, captured.rollouts, strict=True):
        assert one.token_ids.tolist() == other.token_ids.tolist()
        assert (one.text, one.finish_reason) == (other.text, other.finish_reason)
        assert one.neurons.shape == other.neurons.shape
        # neighbors in rank may change places by rounding
        assert np.count_nonzero(one.neurons != other.neurons) <= 0.01 * one.neurons.size
        for name in ("logprobs", "entropies", "self_certainties", "confidences"):
            np.testing.assert_allclose(getattr(one, name), getattr(other, name), atol=2e-4)
