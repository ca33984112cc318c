"""Recording a benchmark: what happens between its problems."""

import pickle

import numpy as np
import pytest

from nad_agents import ConfigurationError, ModelLoadError, NADConfig, NeuronAgreementDecoder, SamplingConfig
from nad_agents.evaluation.datasets import Problem
from nad_agents.evaluation.ray_recording import RecordingActor
from nad_agents.evaluation.recording import DecoderRecorder, record_problems
from nad_agents.runs import RecordedRun
from tests.tiny_models import make_model, save_model
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
    recorder = DecoderRecorder(decoder())
    assert record_problems(recorder, problems, tmp_path / "run", sampling=sampling, config=config, task={}) == 3
    assert recorded_when_returned == [1, 2, 3]


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "tiny"
    save_model(make_model("llama"), path)
    return {"model": path, "device": "cpu", "dtype": "float32", "prefix_cache_mb": 0}


class TestRecordingActor:
    """What a process of a Ray cluster does, here without a cluster."""

    PROBLEM = Problem("one", "answer", "1 + 1?", "1 + 1?", answer="2")
    SAMPLING = SamplingConfig(n=2, max_new_tokens=4, seed=1)
    CONFIG = NADConfig(selector="first", **NEURONS)

    def test_its_candidates_are_those_of_a_decoder(self, options):
        actor, alone = RecordingActor(options), DecoderRecorder(NeuronAgreementDecoder(**options))
        expected = alone.describe_model()
        assert actor.describe_model() == expected
        (here,) = alone.record([(7, self.PROBLEM)], self.SAMPLING, self.CONFIG)
        there = pickle.loads(pickle.dumps(actor.record(7, self.PROBLEM, self.SAMPLING, self.CONFIG, expected)))
        assert (there.problem, there.task, there.prompt, there.seed) == (
            here.problem,
            here.task,
            here.prompt,
            here.seed,
        )
        for one, other in zip(there.group.rollouts, here.group.rollouts, strict=True):
            assert np.array_equal(one.token_ids, other.token_ids)
            assert np.array_equal(one.neurons, other.neurons)

    def test_another_model_than_that_of_the_run_is_refused(self, options):
        actor = RecordingActor(options)
        expected = {**actor.describe_model(), "dtype": "bfloat16"}
        with pytest.raises(ConfigurationError, match="dtype 'float32' and 'bfloat16'"):
            actor.record(0, self.PROBLEM, self.SAMPLING, self.CONFIG, expected)

    def test_a_model_that_cannot_be_loaded_fails_the_call_and_not_the_construction(self, tmp_path):
        actor = RecordingActor({"model": tmp_path / "nothing"})
        with pytest.raises(ModelLoadError):
            actor.describe_model()
