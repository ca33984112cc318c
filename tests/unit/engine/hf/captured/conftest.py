import pytest

from nad_agents.engine.hf import engine
from nad_agents.engine.hf.captured import step_capture
from nad_agents.engine.hf.prefix import batch
from nad_agents.neurons import experts
from tests.recorded_graphs import RecordedGraphs


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
    for module in (step_capture, engine):
        monkeypatch.setattr(module, "graphs_for", graphs_for)
    monkeypatch.setattr(batch, "copying_rows", lambda prompt, on_cpu: copying_rows(prompt, on_cpu=False))
    monkeypatch.setattr(experts, "_can_group", lambda _weight: True)
    return made
