"""Files of problems: formats, and the hub."""

import csv
import gzip
import hashlib
import json

import pyarrow.parquet
import pytest

from nad_agents.evaluation.datasets import load_problems
from nad_agents.exceptions import ConfigurationError

SIGNATURE = 'def add(a, b):\n    """Sum."""\n'

CHECK = "def check(candidate):\n    assert candidate(1, 2) == 3\n"


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
