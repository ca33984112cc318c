"""Problems of every benchmark's form, and files that hold none."""

import csv
import gzip
import hashlib
import json

import pyarrow.parquet
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
        ('{"id": "a", "question": "again", "answer": "1"}', "a second problem with the id 'a'"),
    ],
)
def test_a_line_that_is_no_problem_is_named(tmp_path, line, message):
    path = tmp_path / "own.jsonl"
    path.write_text(f'{{"id": "a", "question": "q", "answer": "1"}}\n{line}\n')
    with pytest.raises(ConfigurationError, match=message) as raised:
        load_problems(path)
    assert "own.jsonl, line 2" in str(raised.value)


@pytest.mark.parametrize("packed", [False, True])
def test_files_are_read_packed_or_not(tmp_path, packed):
    lines = [json.dumps({"question": f"é {i}?", "answer": i}) for i in range(3)]
    data = ("\n\n".join(lines) + "\n").encode()
    path = tmp_path / "own.jsonl.gz"
    path.write_bytes(gzip.compress(data) if packed else data)
    found, source = load_problems(path, limit=2)
    assert [p.id for p in found] == ["own/0", "own/1"]
    assert source["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


def rows(n=2):
    return [{"question": f"what is\n{i} + 1?\u2028", "answer": str(i + 1)} for i in range(n)]


def write_csv(path):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["question", "answer"])
        writer.writeheader()
        writer.writerows(rows())


def write_parquet(path):
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows()), path)


def write_jsonl(path):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows()), encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "write"), [("a.csv", write_csv), ("a.parquet", write_parquet), ("a.jsonl", write_jsonl)]
)
def test_tables_hold_problems_too(tmp_path, name, write):
    write(tmp_path / name)
    found, _ = load_problems(tmp_path / name)
    assert [(p.id, p.question, p.answer) for p in found] == [
        (f"a/{i}", row["question"], row["answer"]) for i, row in enumerate(rows())
    ]


def test_mbpp_of_the_hub_has_its_tests_in_a_list(tmp_path):
    row = {"task_id": 1, "text": "Write add.", "test_list": ["assert add(1, 2) == 3"], "test_setup_code": ""}
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row]), tmp_path / "mbpp.parquet")
    (found,), _ = load_problems(tmp_path / "mbpp.parquet")
    assert (found.id, found.tests) == ("1", "assert add(1, 2) == 3")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub cache and no network."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


@pytest.mark.parametrize("task", ["gsm8k", "GSM8K", "hf://datasets/openai/gsm8k/main/test-00000-of-00001.parquet"])
def test_benchmarks_of_the_hub_have_names(hub, task):
    folder = hub / "datasets--openai--gsm8k"
    file = folder / "snapshots" / ("a" * 40) / "main" / "test-00000-of-00001.parquet"
    file.parent.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("a" * 40)
    write_parquet(file)
    found, source = load_problems(task)
    assert len(found) == 2
    assert source["name"] == task
    assert found[0].id == (f"{task}/0" if task.lower() == "gsm8k" else "test-00000-of-00001/0")


def test_a_file_comes_before_a_benchmark_of_its_name(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "gsm8k")
    found, source = load_problems("gsm8k")
    assert (len(found), source["file"]) == (2, "gsm8k")


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("mbpp", "could not be fetched: .*give a local file"),
        ("hf://datasets/openai/gsm8k", "names no file of a data set"),
        ("hf://datasets/a b/c/d.jsonl", "could not be fetched"),
        ("no-such", "cannot be read: .*or one of humaneval, mbpp"),
    ],
)
def test_what_the_hub_does_not_give_is_said(hub, task, message):
    with pytest.raises(ConfigurationError, match=message):
        load_problems(task)


def test_a_damaged_parquet_file_is_refused(tmp_path):
    (tmp_path / "own.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_problems(tmp_path / "own.parquet")


@pytest.mark.parametrize("data", [b"", b"\n\n", b"\xff\xfe", b"\x1f\x8bcut"])
def test_files_without_problems_are_refused(tmp_path, data):
    path = tmp_path / "own.jsonl"
    path.write_bytes(data)
    with pytest.raises(ConfigurationError, match=r"holds no problems|cannot be read"):
        load_problems(path)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_problems(tmp_path / "missing.jsonl")


def test_a_random_order_depends_on_seed_and_ids_only():
    problems = [parse_problem({"id": i, "question": "q", "answer": "1"}, default_id="") for i in range(30)]
    order = [p.id for p in shuffled(problems, 1)]
    assert order == [p.id for p in shuffled(problems[::-1], 1)]
    assert order != [p.id for p in shuffled(problems, 2)]
    # a longer file keeps the order of what was there
    assert [i for i in order if int(i) < 10] == [p.id for p in shuffled(problems[:10], 1)]
