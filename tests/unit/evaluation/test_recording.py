"""Recording a benchmark: what happens between its problems."""

from nad_agents import NADConfig, SamplingConfig
from nad_agents.evaluation.datasets import Problem
from nad_agents.evaluation.recording import record_problems
from nad_agents.runs import RecordedRun
from tests.unit.decoders import NEURONS, decoder


def test_the_heap_is_returned_to_the_system_after_every_problem(tmp_path, monkeypatch):
    recorded_when_returned = []
    monkeypatch.setattr(
        "nad_agents.evaluation.recording.return_free_memory",
        lambda: recorded_when_returned.append(len(RecordedRun(tmp_path / "run"))),
    )
    problems = [Problem(str(i), "answer", "1 + 1?", "1 + 1?", answer="2") for i in range(3)]
    sampling = SamplingConfig(n=2, max_new_tokens=4, seed=1)
    config = NADConfig(selector="first", **NEURONS)
    assert record_problems(decoder(), problems, tmp_path / "run", sampling=sampling, config=config, task={}) == 3
    assert recorded_when_returned == [1, 2, 3]
