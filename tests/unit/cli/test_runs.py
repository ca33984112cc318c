"""`nad select`, `nad report` and `nad bench` on recorded runs: what they print, how they fail."""

import io
import json
import sys

import pytest

from nad_agents.evaluation.verdicts import read_verdicts
from nad_agents.neurons.activated_sets import ComparisonConfig
from nad_agents.runs import RecordedRun
from nad_agents.selectors import get_selector, rank
from tests.unit.evaluation.synthetic_runs import write_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("made-run"), problems=16, n=4)


@pytest.fixture(scope="module")
def run(folder):
    return RecordedRun(folder)


@pytest.fixture
def nad(monkeypatch, capsys):
    """Run `nad ARGS` in this process; returns (exit code, stdout, stderr)."""
    from nad_agents.cli import main

    def run(*args):
        monkeypatch.setattr(sys, "argv", ["nad", *map(str, args)])
        monkeypatch.setenv("COLUMNS", "140")
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return ended.value.code, out, err

    return run


def test_selecting_again_is_what_the_selector_says(nad, folder, run):
    options = ("--selector", "knn", "--option", "k=2", "--k", 12, "--chunks", 2, "--similarity", "cosine")
    code, out, err = nad("select", folder, *options, "--json")
    assert (code, err) == (0, "")
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["problem"] for line in lines] == run.problems
    comparison = ComparisonConfig(similarity="cosine", top_k=12, chunks=2)
    verdicts = read_verdicts(folder)
    for line in lines:
        group = run.group(line["problem"])
        scores = get_selector("knn", comparison=comparison, k=2).score(group)
        assert line["ranking"] == rank(scores, group)
        assert line["pick"] == line["ranking"][0]
        assert line["scores"] == scores.values.tolist()
        assert line["correct"] == verdicts[line["problem"]].correct[line["pick"]]


def test_selecting_tells_accuracy_and_gain(nad, folder):
    code, out, _ = nad("select", folder, "-s", "mean_logprob")
    lines = nad("select", folder, "-s", "mean_logprob", "--json")[1].splitlines()
    picks = [json.loads(line)["correct"] for line in lines]
    assert code == 0
    assert f"{100 * sum(picks) / len(picks):.1f} [" in out
    assert "(n=16, 95% intervals)" in out


def test_layers_are_a_range(nad, folder):
    code, out, _ = nad("select", folder, "-s", "knn", "--layers", "2:4", "--json")
    everything = nad("select", folder, "-s", "knn", "--json")[1]
    assert code == 0
    assert json.loads(out.splitlines()[0])["scores"] != json.loads(everything.splitlines()[0])["scores"]
    code, _, err = nad("select", folder, "--layers", "2-4")
    assert (code, "give first:end, such as 8:16" in err) == (2, True)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["-s", "knm"], "did you mean 'knn'"),
        (["--option", "k"], "option 'k' is not name=value"),
        (["--option", "size=3"], "has no option 'size'"),
        (["--similarity", "dice"], "similarity='dice' is unknown"),
        (["--k", "21"], "20 neurons per token are recorded, fewer than k=21"),
        (["--k", "0"], "top_k=0 must be"),
    ],
)
def test_what_cannot_be_selected_is_said_in_a_line(nad, folder, args, message):
    code, out, err = nad("select", folder, *args)
    assert (code, out) == (2, "")
    assert message in err


def test_a_folder_without_a_run_says_how_to_record_one(nad, tmp_path):
    code, _, err = nad("select", tmp_path)
    assert code == 1
    assert "holds no recorded run" in err


def test_a_run_that_is_not_scored_says_how_to_score_it(nad, tmp_path):
    made = write_run(tmp_path / "run", problems=2, n=3)
    (made / "verdicts.jsonl").unlink()
    code, out, _ = nad("select", made)
    assert (code, "nad report" in out) == (0, True)


def test_a_report_of_answers_scores_them_itself(nad, tmp_path):
    made = write_run(tmp_path / "run", problems=2, n=3, kind="answer")
    (made / "verdicts.jsonl").unlink()
    code, out, _ = nad("report", made, "--selectors", "majority,mean_logprob", "-o", tmp_path / "shown")
    assert code == 0
    assert "2 problems, 3 candidates each" in out
    assert "Nothing tells the selectors apart: no candidate is right." in out
    figures = json.loads((tmp_path / "shown" / "figures.json").read_text(encoding="utf-8"))
    assert {row["label"] for row in figures["evidence"]["rows"]} >= {"majority", "mean_logprob"}
    assert (tmp_path / "shown" / "report.html").exists()
    assert len(read_verdicts(made)) == 2


def test_a_report_of_what_is_not_there(nad, folder):
    code, _, err = nad("report", folder, "--selectors", "majority,knn")
    assert (code, "cannot compare majority on this run" in err) == (2, True)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["own.jsonl", "--selectors", "knn,knm"], "cannot compare knm; choose of knn, medoid"),
        (["own.jsonl", "--temperature", "0"], "temperature"),
        (["own.jsonl", "--score", "rank"], "score='rank'"),
        (["missing.jsonl"], "cannot be read"),
        (["own.jsonl"], "Or record now (--no-judge), and judge later with `nad report`"),
    ],
)
def test_a_benchmark_that_cannot_work_is_refused_before_a_model_is_loaded(nad, tmp_path, monkeypatch, args, message):
    monkeypatch.chdir(tmp_path)
    # neither a Docker engine nor bubblewrap
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "own.jsonl").write_text(json.dumps({"prompt": "Write add.", "tests": "assert add(1, 2) == 3"}) + "\n")
    code, out, err = nad("bench", *args, "--out", tmp_path / "run", "--model", tmp_path / "no-model")
    assert (code, out) == (2, "")
    assert message in err
    assert not (tmp_path / "run").exists()


def test_help_names_the_commands(nad):
    out = nad("--help")[1]
    assert all(name in out for name in ("bench", "select", "report"))


class TestTable:
    rows = (["selector", "accuracy, %", "gain"], [["knn, without the shared start", "44.4 [27.8, 61.1]", "+8.7"]])

    def shown(self, **options):
        from rich.console import Console

        from nad_agents.cli.display import show_table

        console = Console(file=io.StringIO(), **options)
        show_table(console, self.rows, "a title")
        return console.file.getvalue()

    def test_is_whole_where_the_output_is_no_terminal(self):
        (line,) = [line for line in self.shown(width=40).splitlines() if line.startswith("knn")]
        assert line.split("  ") == ["knn, without the shared start", "44.4 [27.8, 61.1]", "+8.7"]

    def test_keeps_names_and_whole_figures_in_a_narrow_terminal(self):
        out = self.shown(width=42, force_terminal=True, no_color=True)
        assert "44.4 [27.8, 61.1]" in out
        assert "+8.7" not in out
        assert "knn, without the" in out
        assert "start" in out
