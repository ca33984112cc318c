"""Final answers and how they compare; scoring a run of answers, and of code in a sandbox process of this machine."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nad_agents.evaluation.scoring import agreed_answers, final_answer, same_answer, score_run, unscored
from nad_agents.evaluation.verdicts import read_verdicts
from nad_agents.exceptions import ConfigurationError
from nad_agents.rollouts import RolloutGroup
from nad_agents.runs import ProblemRecord, RecordedRun, RunWriter
from tests.unit.evaluation.synthetic import LAYOUT, candidate, write_run


@pytest.mark.parametrize(
    ("text", "expected", "found"),
    [
        (r"6 times 7 is \boxed{42}.", "42", "42"),
        ("first 41, then 42.", "42", "42"),
        (r"\boxed{42.0}", "42", "42"),
        (r"\boxed{\$1,200}", "1200", "1200"),
        (r"\boxed{5\text{ cm}}", "5", "5"),
        (r"\boxed{x = 4}", "4", "4"),
        (r"\boxed{1} and later \boxed{2}", "2", "2"),
        ("no number at all", "42", None),
        ("it is x + 1", "x+1", None),
        (r"\boxed{x + 1}", "x+1", "x+1"),
        (r"\boxed{B}", "B", "B"),
        (r"\boxed{\text{(B) 42}}", "B", "B"),
        (r"\boxed{b}", "B", "B"),
        ("Hence the answer is (C).", "B", "C"),
        ("answer is A? No: the final answer is **D**", "D", "D"),
        (r"\boxed{apple}", "A", None),
        ("A good question", "A", None),
    ],
)
def test_final_answers(text, expected, found):
    assert final_answer(text, expected) == found


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("0.5", r"\frac{1}{2}"),
        ("1/2", r"\dfrac12"),
        ("-3/6", r"-\tfrac{1}{2}"),
        ("1,000", "1000"),
        (r"50\%", "50"),
        ("$7$", "7.00"),
        (".5", "0.5"),
        (r"90^\circ", "90"),
        (r"\left( 1, 2 \right)", "(1,2)"),
        (r"\text{Monday}", "monday"),
        (r"x^2 + 1", "x^2+1"),
    ],
)
def test_answers_that_are_the_same(one, other):
    assert same_answer(one, other)
    assert same_answer(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [("1", "2"), ("1/2", "2/1"), ("-1", "1"), ("(1,2)", "12"), ("1/0", "1"), ("x+1", "x-1"), ("12", "1/2"), ("", "0")],
)
def test_answers_that_differ(one, other):
    assert not same_answer(one, other)


@given(st.integers(-(10**6), 10**6), st.integers(1, 999))
def test_a_fraction_is_the_same_however_it_is_written(top, bottom):
    sign = "-" if top < 0 else ""
    forms = [f"{top}/{bottom}", f"{sign}\\frac{{{abs(top)}}}{{{bottom}}}", f"${3 * top}/{3 * bottom}$"]
    assert all(same_answer(a, b) for a in forms for b in forms)
    assert not same_answer(forms[0], f"{top + 1}/{bottom}")


def test_answers_count_as_one_when_they_are_the_same():
    found = agreed_answers(["a", "b", "c", "d"], ["1/2", "0.5", None, "3"])
    assert found["a"] == found["b"]
    assert (found["c"], found["d"]) == (None, "3")


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
    assert found.behaviour == (2, 2, 1, 0, 1)
    assert found.reasons[0] == ""
    assert "candidate(3) == 6" in found.reasons[2]
    assert found.reasons[3].startswith("syntax")


def test_programs_that_were_not_observed_are_scored_again(tmp_path):
    made = RecordedRun(write_run(tmp_path / "run", problems=2, n=3, observed=False))
    assert unscored(made, observe=True) == ["made/0", "made/1"]
    assert unscored(made, observe=False) == []
