"""What a row of a benchmark becomes: what is asked, and how an answer is judged."""

import json

import pytest

from nad_agents.evaluation.datasets import load_problems, parse_problem, shuffled
from nad_agents.exceptions import ConfigurationError

SIGNATURE = 'def add(a, b):\n    """Sum."""\n'

CHECK = "def check(candidate):\n    assert candidate(1, 2) == 3\n"


def parse(**fields):
    return parse_problem(fields, default_id="made/0")


def test_humaneval_asks_to_complete_the_signature_and_is_judged_by_check():
    found = parse(task_id="HumanEval/1", prompt=SIGNATURE, test=CHECK, entry_point="add", canonical_solution="x")
    assert (found.id, found.kind, found.entry_point, found.tests) == ("HumanEval/1", "code", "add", CHECK.strip("\n"))
    assert SIGNATURE.rstrip() in found.message
    assert found.message.startswith("Complete this Python function.")
    assert "assert" not in found.message


def test_mbpp_shows_its_tests_since_they_name_the_function():
    found = parse(task_id=11, text="Write add.", test_list=["assert add(1, 2) == 3"], test_setup_code="import math")
    assert (found.id, found.kind, found.entry_point) == ("11", "code", None)
    assert found.tests == "import math\nassert add(1, 2) == 3"
    assert "assert add(1, 2) == 3" in found.message
    # what a user has to check an answer with does not contain the tests that judge it
    assert "assert" not in found.question


def test_own_tests_are_not_shown():
    found = parse(prompt="Write add(a, b).", tests="assert add(1, 2) == 3")
    assert (found.id, found.kind) == ("made/0", "code")
    assert "assert" not in found.message


def test_tests_that_define_check_need_an_entry_point_to_be_called():
    assert parse(prompt="Write add.", tests=CHECK).entry_point is None
    assert parse(prompt="Write add.", tests="assert add(1, 2) == 3", entry_point="add").entry_point is None


def test_gsm8k_has_its_answer_after_the_hashes():
    found = parse(question="6 x 7?", answer="Six times seven.\n#### 42")
    assert (found.kind, found.answer) == ("answer", "42")
    assert found.message.endswith("put your final answer within \\boxed{}.")


@pytest.mark.parametrize(
    ("fields", "name", "answer"),
    [
        (
            {"unique_id": "test/1.json", "problem": "1/2?", "solution": "long", "answer": "\\frac12"},
            "test/1.json",
            "\\frac12",
        ),
        ({"id": 60, "problem": "AIME", "answer": 204}, "60", "204"),
        ({"question": "own", "answer": "blue"}, "made/0", "blue"),
    ],
)
def test_other_questions_with_answers(fields, name, answer):
    found = parse(**fields)
    assert (found.id, found.kind, found.answer) == (name, "answer", answer)


def test_gpqa_shuffles_its_choices_the_same_way_each_time():
    answers = set()
    for number in range(12):
        wrong = {f"Incorrect Answer {i}": f"wrong {i}" for i in (1, 2, 3)}
        fields = {"Record ID": str(number), "Question": f"Question {number}?", "Correct Answer": "right"} | wrong
        found = parse(**fields)
        assert found == parse(**fields)
        assert f"{found.answer}) right" in found.message
        assert found.message.count(") wrong") == 3
        answers.add(found.answer)
    assert answers == set("ABCD")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2"),
        ("[1]", "line 2"),
        ('{"answer": "4"}', "no prompt, question, problem or text among the fields answer"),
        ('{"question": "why?"}', "has neither tests nor an answer"),
        ('{"prompt": "x", "tests": "assert ("}', "tests of problem .* do not compile"),
        (json.dumps({"prompt": "x", "tests": "x = 1" + " + 1" * 100_000}), "tests of problem .* do not compile"),
        (json.dumps({"prompt": "x", "tests": "x = \0"}), "tests of problem .* do not compile"),
        ("[" * 100_000, "line 2"),
        ('{"id": "a", "question": "again", "answer": "1"}', "a second problem with the id 'a'"),
    ],
)
def test_a_line_that_is_no_problem_is_named(tmp_path, line, message):
    path = tmp_path / "own.jsonl"
    path.write_text(f'{{"id": "a", "question": "q", "answer": "1"}}\n{line}\n')
    with pytest.raises(ConfigurationError, match=message) as raised:
        load_problems(path)
    assert "own.jsonl, line 2" in str(raised.value)


def test_a_random_order_depends_on_seed_and_ids_only():
    problems = [parse_problem({"id": i, "question": "q", "answer": "1"}, default_id="") for i in range(30)]
    order = [p.id for p in shuffled(problems, 1)]
    assert order == [p.id for p in shuffled(problems[::-1], 1)]
    assert order != [p.id for p in shuffled(problems, 2)]
    # a longer file keeps the order of what was there
    assert [i for i in order if int(i) < 10] == [p.id for p in shuffled(problems[:10], 1)]
