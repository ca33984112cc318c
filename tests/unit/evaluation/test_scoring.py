"""Scoring a run of answers, and of code in a sandbox process of this machine."""

import pytest

from nad_agents.evaluation.scoring import score_run, unscored
from nad_agents.evaluation.verdicts import read_verdicts
from nad_agents.exceptions import ConfigurationError
from nad_agents.rollouts import RolloutGroup
from nad_agents.runs import ProblemRecord, RecordedRun, RunWriter
from tests.unit.evaluation.synthetic_runs import LAYOUT, candidate, write_run


def record(run, name, texts, task):
    import numpy as np

    rng = np.random.default_rng(0)
    rollouts = [candidate(rng, i, right=True, topic=5.0) for i in range(len(texts))]
    for rollout, text in zip(rollouts, texts, strict=True):
        object.__setattr__(rollout, "text", text)
    return ProblemRecord(name, RolloutGroup(rollouts, LAYOUT, task["question"]), task=task)


@pytest.fixture
def make_run(tmp_path, run):
    def make(*problems):
        names = tuple(f"p{i}" for i in range(len(problems)))
        with RunWriter(tmp_path / "run", run.manifest.model_copy(update={"problems": names})) as writer:
            for name, (texts, task) in zip(names, problems, strict=True):
                writer.append(record(run, name, texts, task))
        return RecordedRun(tmp_path / "run")

    return make


def test_answers_are_scored_once_and_told_apart(make_run):
    task = {"kind": "answer", "question": "6 x 7?", "answer": "42"}
    made = make_run(([r"\boxed{42}", "43", "hm"], task), ([r"\boxed{1}"] * 3, task))
    seen = []
    assert score_run(made, on_problem=lambda verdicts, done: seen.append((verdicts.problem, done))) == 2
    assert seen == [("p0", 1), ("p1", 2)]
    verdicts = read_verdicts(made.folder)["p0"]
    assert verdicts.correct == (True, False, False)
    assert verdicts.answers == ("42", "43", None)
    assert verdicts.reasons == ("", "another answer", "no final answer")
    assert unscored(made) == []
    assert score_run(made) == 0


def test_code_needs_a_sandbox(make_run):
    made = make_run((["print(1)"], {"kind": "code", "question": "", "tests": "", "entry_point": None}))
    with pytest.raises(ConfigurationError, match="scored by running it; give a sandbox"):
        score_run(made)


def test_code_is_scored_by_its_tests_its_examples_and_what_it_does(make_run):
    from nad_sandbox import UnsafeLocalSandbox

    question = 'def double(x: int) -> int:\n    """Twice x.\n\n    >>> double(2)\n    4\n    """\n'
    tests = "def check(candidate):\n    assert candidate(3) == 6\n    assert candidate(-1) == -2\n"
    bodies = ["2 * x", "x + x", "x ** 2", "x +", "x + 3"]
    texts = [f"```python\ndef double(x):\n    return {body}\n```" for body in bodies]
    task = {"kind": "code", "question": question, "tests": tests, "entry_point": "double"}
    made = make_run((texts, task))
    with UnsafeLocalSandbox() as sandbox:
        assert score_run(made, sandbox=sandbox, timeout=5.0, workers=2) == 1
    found = read_verdicts(made.folder)["p0"]
    assert found.correct == (True, True, False, False, False)
    # the square of 2 is 4 as well, which is all that the prompt shows
    assert found.examples == (True, True, True, False, False)
    # the first two do the same; what does not compile does nothing
    assert len(found.outcomes) == 5
    assert found.outcomes[0] == found.outcomes[1]
    assert all(label < 0 for label in found.outcomes[3])
    assert any(a != b for a, b in zip(found.outcomes[0], found.outcomes[4], strict=True))
    assert found.reasons[0] == ""
    assert "candidate(3) == 6" in found.reasons[2]
    assert found.reasons[3].startswith("syntax")


def test_programs_that_were_not_observed_are_scored_again(tmp_path):
    made = RecordedRun(write_run(tmp_path / "run", problems=2, n=3, observed=False))
    assert unscored(made, observe=True) == ["made/0", "made/1"]
    assert unscored(made, observe=False) == []
