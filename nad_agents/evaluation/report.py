"""One self-contained page: settings, tables and pictures of a run, without a network."""

from __future__ import annotations

import base64
import io
import json
import math
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nad_agents.evaluation.evidence import Evidence, chosen_on_half, collect_evidence
from nad_agents.evaluation.measures import Plan, ProblemMeasures, measure_run
from nad_agents.evaluation.plots import PICTURES, draw_pictures
from nad_agents.evaluation.tables import (
    Table,
    difficulty_table,
    findings_table,
    percent,
    selector_table,
    sweep_table,
    to_markdown,
)
from nad_agents.runs import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["summarise", "write_report"]

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; font-size: 13px; margin: 1rem 0; display: block; overflow-x: auto; }
th, td { padding: .25rem .7rem; text-align: left; border-bottom: 1px solid #ddd; white-space: nowrap; }
th { border-bottom: 2px solid #888; } img { max-width: 100%; height: auto; }
h2 { margin-top: 2.5rem; } .note { color: #555; }
"""


def write_report(run: Run, folder: str | Path, *, workers: int = 1, draws: int = 10_000) -> Evidence:
    """Measure a scored run and write ``report.html``, ``report.md``, ``figures.json`` and the pictures as PNG files.

    Args:
        run: recorded and scored, or as much of it as there is.
        folder: made if absent; files in it are replaced.
        workers: processes.
        draws: bootstrap resamples.

    Raises:
        RunError: nothing is scored, or a record is damaged.
        MissingDependencyError: matplotlib is not installed.
    """
    plan = Plan.for_run(run)
    measures = measure_run(run, plan, workers=workers)
    evidence = collect_evidence(measures, plan, draws=draws)
    pictures = draw_pictures(measures, evidence, plan)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tables = _tables(evidence)
    about = summarise(run, measures, evidence, plan)
    (folder / "report.md").write_text(_markdown(about, tables), encoding="utf-8")
    (folder / "report.html").write_text(_page(run, about, tables, _encoded(pictures, folder)), encoding="utf-8")
    figures = {"run": run.manifest.model_dump(mode="json"), "evidence": asdict(evidence)}
    # JSON has no NaN
    (folder / "figures.json").write_text(json.dumps(_finite(figures), indent=1), encoding="utf-8")
    return evidence


def summarise(run: Run, measures: list[ProblemMeasures], evidence: Evidence, plan: Plan) -> list[str]:
    """What was run, how much of it there is, and the choice made on one half, as sentences."""
    manifest = run.manifest
    task, model, sampling = manifest.task, manifest.model, manifest.sampling
    lines = [
        f"{task.get('file', 'problems')}: {evidence.problems} of {len(manifest.problems)} problems are recorded and "
        f"scored, with {evidence.candidates} candidates each; {evidence.mixed} problems have right and wrong "
        "candidates, and only these tell selectors apart.",
        f"Model {model.get('name')} ({model.get('dtype')}), temperature {sampling.get('temperature')}, top-p "
        f"{sampling.get('top_p')}, top-k {sampling.get('top_k')}, at most {sampling.get('max_new_tokens')} tokens, "
        f"where {100 * evidence.cut:.1f}% of the candidates were cut; seed {sampling.get('seed')}.",
    ]
    label, accuracy, gain, n = chosen_on_half(measures, plan)
    if accuracy.n:
        lines.append(
            f"Chosen on one half of the problems (n={n}): {label}. On the other half (n={accuracy.n}) it has "
            f"{percent(accuracy)}%, a gain over random of {percent(gain, signed=True)} points."
        )
    lines.append(
        "Intervals are 95% percentile bootstrap intervals over problems. An asterisk marks a gain over random whose "
        f"interval excludes 0; of the {len(evidence.rows)} selectors compared here, about one in twenty would have "
        "such a mark by chance."
    )
    return lines


def _tables(evidence: Evidence) -> dict[str, Table]:
    tables = {"Selectors": selector_table(evidence), "Neurons, entropy, agreement": findings_table(evidence)}
    for title, sweep in (
        ("Selecting early: accuracy by tokens seen", "position"),
        ("Accuracy by neurons per token", "width"),
        ("Accuracy by number of candidates (random subsets)", "candidates"),
    ):
        if any(point.sweep == sweep for point in evidence.sweeps):
            tables[title] = sweep_table(evidence, sweep)
    tables["Gain over random by difficulty, points"] = difficulty_table(evidence)
    return tables


def _encoded(pictures: dict[str, Figure], folder: Path) -> dict[str, str]:
    encoded = {}
    for name, picture in pictures.items():
        buffer = io.BytesIO()
        picture.savefig(buffer, format="png", dpi=130)
        (folder / f"{name}.png").write_bytes(buffer.getvalue())
        encoded[name] = base64.b64encode(buffer.getvalue()).decode("ascii")
    return encoded


def _markdown(about: list[str], tables: dict[str, Table]) -> str:
    parts = ["\n\n".join(about), *(f"## {title}\n\n{to_markdown(table)}" for title, table in tables.items())]
    return "\n\n".join(parts) + "\n"


def _page(run: Run, about: list[str], tables: dict[str, Table], pictures: dict[str, str]) -> str:
    title = f"{run.manifest.model.get('name')} on {run.manifest.task.get('file')}"
    parts = [f"<h1>{escape(title)}</h1>", *(f"<p>{escape(line)}</p>" for line in about)]
    for name, data in pictures.items():
        caption = escape(PICTURES[name][1])
        parts.append(f'<h2>{caption}</h2><img alt="{caption}" src="data:image/png;base64,{data}">')
    for heading, (head, rows) in tables.items():
        cells = "".join(f"<th>{escape(cell)}</th>" for cell in head)
        body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
        parts.append(f"<h2>{escape(heading)}</h2><table><tr>{cells}</tr>{body}</table>")
    settings = json.dumps(run.manifest.model_dump(mode="json", exclude={"problems"}), indent=1)
    parts.append(f"<h2>Settings</h2><pre>{escape(settings)}</pre>")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value
