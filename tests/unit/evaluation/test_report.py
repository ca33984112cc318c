"""A report's files: complete, self-contained, and the same figures everywhere."""

import html
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from rich.console import Console

from nad_agents.cli.display import show_evidence
from nad_agents.evaluation.plots import PLOTS, draw_plots
from nad_agents.evaluation.report import write_report, write_report_files
from nad_agents.evaluation.tables import (
    percent,
)
from nad_agents.exceptions import ConfigurationError
from nad_agents.runs import RecordedRun
from tests.unit.evaluation.synthetic_runs import write_run


@pytest.fixture(scope="module")
def written(run, plan, measures, evidence, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "new"
    write_report_files(run, evidence, draw_plots(measures, evidence, plan), folder)
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
    assert len(page.sources) == len(list(folder.glob("*.png"))) == len(PLOTS)
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


@pytest.mark.parametrize(("share", "why"), [(0.0, "no candidate is right"), (1.0, "every candidate is right")])
def test_a_run_that_tells_nothing_apart_says_so_and_draws_no_comparison(tmp_path, share, why):
    run = RecordedRun(write_run(tmp_path / "run", problems=5, n=3, share=share))
    evidence = write_report(run, tmp_path / "report", selectors=["min_act", "mean_logprob"], draws=20)
    assert evidence.halvings is None
    markdown = (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    assert markdown.startswith(f"Nothing tells the selectors apart: {why}.")
    assert "chosen most often" not in markdown
    assert "## Selectors" not in markdown
    assert not {f"{name}.png" for name in ("accuracy", "auroc", "tokens", "reliability")} & {
        file.name for file in (tmp_path / "report").iterdir()
    }
    shown = io.StringIO()
    show_evidence(Console(file=shown, width=200), evidence)
    assert why in shown.getvalue()
    assert "[0.0, 0.0]" not in shown.getvalue()


def test_candidates_that_were_all_cut_are_said_first(evidence):
    cut = replace(evidence, cut=1.0)
    shown = io.StringIO()
    show_evidence(Console(file=shown, width=200), cut)
    assert (
        "Every candidate was cut at the token limit; record again with a larger --max-new-tokens." in shown.getvalue()
    )
    assert replace(evidence, cut=0.6).warnings == (
        "60% of the candidates were cut at the token limit; record again with a larger --max-new-tokens.",
    )
    assert replace(evidence, cut=0.1).warnings == ()


def test_the_page_shows_texts_of_candidates_and_fits_phones_and_dark_rooms(written, run):
    page = (written[0] / "report.html").read_text(encoding="utf-8")
    parts = page.split("<h2>Some candidates</h2>")[1]
    text = next(c["text"] for c in run.header(run.problems[0])["candidates"] if c["text"].strip())
    assert parts.count("<h3>") == 3
    assert "right</p><pre>" in parts
    assert "wrong</p><pre>" in parts
    assert html.escape(text)[:20] in page
    assert 'name="viewport" content="width=device-width' in page
    assert "prefers-color-scheme: dark" in page


def test_names_of_lines_and_points_do_not_overprint(measures, evidence, plan):
    close = replace(evidence, oracle=replace(evidence.average, value=evidence.average.value + 1e-3))
    figures = draw_plots(measures, close, plan)
    for name in ("accuracy", "reliability"):
        figure = figures[name]
        figure.canvas.draw()
        (axes,) = figure.axes
        boxes = [text.get_window_extent() for text in axes.texts if text.get_text()]
        assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i]), name
