"""Engines with captured steps, and how close their candidates have to be to those of the model's own steps."""

import numpy as np
import pytest

from nad_agents.engine.hf.captured import compile_option, step_capture
from nad_agents.engine.hf.engine import HFEngine
from nad_agents.engine.hf.prefix import batch
from nad_agents.neurons import experts
from tests.recorded_graphs import RecordedGraphs
from tests.tiny_models import byte_tokenizer


@pytest.fixture
def recorded(monkeypatch):
    """A GPU's engine on the CPU: graphs are lists of operations, rows have copies of prompts, experts are grouped.

    Returns:
        The graphs of every engine, in the order in which they were made.
    """
    made = []

    def graphs_for(_device):
        made.append(RecordedGraphs())
        return made[-1]

    copying_rows = batch.copying_rows
    for module in (step_capture, compile_option):
        monkeypatch.setattr(module, "graphs_for", graphs_for)
    monkeypatch.setattr(batch, "copying_rows", lambda prompt, on_cpu: copying_rows(prompt, on_cpu=False))
    monkeypatch.setattr(experts, "_can_group", lambda _weight: True)
    return made


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
