"""A report's files: complete, self-contained, and the same figures everywhere."""

import json
import math
import re
from html.parser import HTMLParser

import pytest

from nad_agents.evaluation.evidence import collect_evidence
from nad_agents.evaluation.measures import Plan, measure_problem
from nad_agents.evaluation.plots import PICTURES, classical_mds, draw_pictures
from nad_agents.evaluation.report import write_files, write_report
from nad_agents.evaluation.statistics import Estimate
from nad_agents.evaluation.tables import (
    difficulty_table,
    findings_table,
    frontier_table,
    percent,
    plain,
    selector_table,
    short_table,
    to_markdown,
)
from nad_agents.evaluation.variants import neighbour_sweep, position_sweep, standard_variants
from nad_agents.evaluation.verdicts import ProblemVerdicts
from nad_agents.exceptions import ConfigurationError
from nad_agents.runs import RecordedRun
from tests.unit.evaluation.synthetic import LAYOUT, problem, write_run


@pytest.fixture(scope="module")
def written(run, plan, measures, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "new"
    evidence = collect_evidence(measures, plan, draws=300)
    write_files(run, evidence, draw_pictures(measures, evidence, plan), folder)
    return folder, evidence


class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.sources, self.links, self.tags, self.text = [], [], set(), []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.sources += [value for name, value in attrs if name == "src"]
        self.links += [value for name, value in attrs if name in ("href", "srcset", "data", "action")]

    def handle_data(self, data):
        self.text.append(data)


def test_the_page_needs_nothing_but_itself(written):
    folder, _ = written
    text = (folder / "report.html").read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    assert not page.tags & {"script", "link", "iframe", "object"}
    assert page.links == []
    assert not re.search(r"https?:|url\(|@import", text)
    assert len(page.sources) == len(list(folder.glob("*.png"))) == len(PICTURES)
    assert all(source.startswith("data:image/png;base64,iVBORw0KGgo") for source in page.sources)


def test_what_is_written_can_be_read_again(written):
    folder, evidence = written
    figures = json.loads((folder / "figures.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    rows = {row["label"]: row for row in figures["evidence"]["rows"]}
    assert rows["knn"]["accuracy"]["value"] == next(r for r in evidence.rows if r.label == "knn").accuracy.value
    assert figures["run"]["model"]["name"] == "made"
    assert len(figures["evidence"]["sweeps"]) == len(evidence.sweeps)


def test_the_page_says_what_was_run_and_shows_every_selector(written):
    folder, evidence = written
    page = Page()
    page.feed((folder / "report.html").read_text(encoding="utf-8"))
    text = " ".join(page.text)
    assert "16 of 16 problems are recorded and scored, with 4 candidates each" in text
    markdown = (folder / "report.md").read_text(encoding="utf-8")
    for row in evidence.rows:
        assert row.label in page.text
        assert f"| {row.label} | {percent(row.accuracy)} |" in markdown


def test_a_report_of_some_selectors_under_a_name_that_would_break_a_page(tmp_path):
    folder = write_run(tmp_path / "run", problems=2, n=3)
    manifest = json.loads((folder / "run.json").read_text())
    manifest["model"]["name"] = "<script>alert(1)</script>"
    (folder / "run.json").write_text(json.dumps(manifest))
    found = write_report(RecordedRun(folder), tmp_path / "report", selectors=["min_act", "mean_logprob"], draws=20)
    assert "<script" not in (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert {row.label.split(",")[0] for row in found.rows} == {"min_act", "mean_logprob"}
    # pictures of knn's choices would show what is not compared
    assert not (tmp_path / "report" / "map.png").exists()
    assert (tmp_path / "report" / "accuracy.png").exists()


@pytest.mark.parametrize("names", [["knm"], []])
def test_selectors_that_cannot_be_compared_are_named(run, tmp_path, names):
    with pytest.raises(ConfigurationError, match=r"cannot compare (knm|nothing) on this run; choose of knn, medoid"):
        write_report(run, tmp_path, selectors=names)


def test_estimates_as_text():
    assert percent(Estimate(0.4824, 0.41, 0.5512, 9)) == "48.2 [41.0, 55.1]"
    assert percent(Estimate(0.05, -0.01, 0.1, 9), signed=True) == "+5.0 [-1.0, +10.0]"
    assert plain(Estimate(0.5, 0.25, 0.75, 9), 1) == "0.5 [0.2, 0.8]"
    assert percent(Estimate(math.nan, math.nan, math.nan, 0)) == plain(Estimate(math.nan, 0, 0, 0)) == "-"


def test_tables_are_rectangular_and_bounded_by_oracle_and_random(written):
    _, evidence = written
    for head, rows in (selector_table(evidence), short_table(evidence)):
        assert {len(row) for row in rows} == {len(head)}
        assert (rows[0][0], rows[-1][0]) == ("oracle (pass@4)", "random (Avg@4)")
    head, rows = frontier_table(evidence)
    tokens = [int(row[head.index("tokens generated")]) for row in rows]
    assert tokens == sorted(tokens)
    assert to_markdown((("a", "b"), [("1", "2")])) == "| a | b |\n| --- | --- |\n| 1 | 2 |"


def test_marks_tell_a_gain_alone_from_one_among_all(written):
    _, evidence = written
    cells = {row[0]: row[2] for row in selector_table(evidence)[1]}
    for row in evidence.rows:
        stars = 2 if row.stands_alone else int(row.gain.excludes_zero)
        assert cells[row.label].count("*") == stars


def test_a_map_keeps_the_distances_of_points_in_a_plane():
    import numpy as np

    points = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0], [1.0, 1.0]])
    distance = np.linalg.norm(points[:, None] - points[None], axis=-1)
    found = classical_mds(distance)
    np.testing.assert_allclose(np.linalg.norm(found[:, None] - found[None], axis=-1), distance, atol=1e-9)
    assert classical_mds(np.zeros((1, 1))).tolist() == [[0, 0]]


@pytest.mark.parametrize(("n", "share", "count"), [(1, None, 2), (3, 0.0, 4), (3, 1.0, 1)])
def test_runs_that_tell_nothing_apart_are_reported_too(n, share, count):
    sweeps = {"position": position_sweep((32,)), "neighbours": neighbour_sweep(n)}
    variants = standard_variants(first_layer=0, n_layers=LAYOUT.n_layers, examples=True, behaviour=True)
    plan = Plan(tuple(variants), sweeps, tuple(size for size in (2,) if size < n))
    measured = []
    for seed in range(count):
        group, correct = problem(seed, n=n, share=share)
        verdicts = ProblemVerdicts(str(seed), tuple(map(bool, correct)), None, ("",) * n, None, "made")
        measured.append(measure_problem(group, verdicts, plan))
    evidence = collect_evidence(measured, plan, draws=50)
    assert all(row.auroc.n == 0 for row in evidence.rows)
    # what needs right and wrong candidates of one problem is left out
    drawn = set(draw_pictures(measured, evidence, plan))
    assert {"accuracy", "tokens"} <= drawn <= {"accuracy", "tokens", "entropy"}
    for table in (selector_table(evidence), difficulty_table(evidence), findings_table(evidence)):
        assert all(len(row) == len(table[0]) for row in table[1])
