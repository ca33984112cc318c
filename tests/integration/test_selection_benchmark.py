"""The benchmark of selectors gives the same figures for a run and for matrices of it, and writes them to a page."""

import gzip
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from nad_agents.evaluation.verdicts import read_verdicts
from nad_agents.neurons.activated_sets import similarity_matrix, unique_counts
from nad_agents.neurons.comparison import ComparisonConfig
from nad_agents.runs import RecordedRun
from tests.unit.evaluation.synthetic_runs import write_run
from tests.unit.sources import ROOT


def write_matrices(run, prefix):
    """What `problems.py` of the benchmark describes, in full precision."""
    kinds = {
        "J_all": ComparisonConfig(),
        "WJ": ComparisonConfig(similarity="weighted_jaccard_rates"),
        "J_1": ComparisonConfig(compare_chunks=1),
    }
    signals = {name: [] for name in ("U_all", "U_1", "len", "lp_mean", "ent_mean")}
    matrices, texts, judged = {name: [] for name in kinds}, [], []
    for name, verdicts in read_verdicts(run.folder).items():
        group = run.group(name)
        for key, comparison in kinds.items():
            upper = np.triu_indices(len(group), 1)
            matrices[key].append(similarity_matrix(group, comparison)[upper])
        signals["U_all"].append(unique_counts(group, kinds["J_all"]))
        signals["U_1"].append(unique_counts(group, kinds["J_1"]))
        signals["len"].append([len(r) for r in group.rollouts])
        signals["lp_mean"].append([r.logprobs.mean(dtype=np.float64) for r in group.rollouts])
        signals["ent_mean"].append([r.entropies.mean(dtype=np.float64) for r in group.rollouts])
        found = {"texts": [r.text for r in group.rollouts], "finish": [r.finish_reason for r in group.rollouts]}
        texts.append({"id": name, **found})
        labels = np.array(verdicts.outcomes).T
        judged.append(
            {
                "ok": verdicts.correct,
                "shown": verdicts.examples,
                "index": list(range(len(group))),
                "labels": labels.tolist(),
                "crashed": (labels < 0).tolist(),
            }
        )
    np.savez(f"{prefix}_J1.npz", **{name: np.array(rows) for name, rows in matrices.items()})
    np.savez(f"{prefix}_J2.npz")
    np.savez(f"{prefix}_signals.npz", **{name: np.array(rows) for name, rows in signals.items()})
    for ending, rows in (("texts", texts), ("verdicts", judged)):
        with gzip.open(f"{prefix}_{ending}.jsonl.gz", "wt", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)


def printed(*arguments):
    command = [sys.executable, str(ROOT / "benchmarks" / "selection"), *map(str, arguments), "--draws", "2"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run"), problems=8, n=8)


def test_matrices_of_a_run_give_the_figures_of_the_run(folder, tmp_path):
    write_matrices(RecordedRun(folder), tmp_path / "made")
    tables = ("--tables", "accuracy", "findings", "forms")
    ours, theirs = (printed(source, *tables).splitlines() for source in (folder, tmp_path / "made"))
    shared = [line for line in theirs if line.startswith("| ")]
    assert len(shared) > 60
    # a run has more selectors and findings, and everything that both have is the same
    missing = [line for line in shared if line not in ours]
    assert missing == []


def test_a_page_has_the_picture_and_every_table(folder, tmp_path):
    page, picture = tmp_path / "page.md", tmp_path / "cost.png"
    shown = printed(
        folder,
        "--tables",
        "accuracy",
        "confidence",
        "halves",
        "--title",
        "A model on a task",
        "--page",
        page,
        "--picture",
        picture,
    )
    text = page.read_text(encoding="utf-8")
    assert text.startswith("# Choosing: A model on a task\n")
    assert "![Problems solved against tokens and programs](cost.png)" in text
    assert picture.read_bytes()[:4] == b"\x89PNG"
    titles = [line for line in shown.splitlines() if line.startswith("###")]
    assert len(titles) == 6
    assert [line for line in text.splitlines() if line.startswith("###")] == titles


def test_a_folder_without_a_recording_is_named(tmp_path):
    with pytest.raises(AssertionError, match="neither the folder of a run nor the prefix of matrices"):
        printed(tmp_path / "nothing")
