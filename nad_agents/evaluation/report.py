"""Write the report of a run: one self-contained page with settings, tables and plots, which needs no network."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Collection, Mapping
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nad_agents.evaluation.evidence import Evidence, collect_evidence
from nad_agents.evaluation.measures import measure_run
from nad_agents.evaluation.plan import Plan
from nad_agents.evaluation.plots import PLOTS, draw_plots
from nad_agents.evaluation.tables import (
    SWEEPS,
    Table,
    difficulty_table,
    findings_table,
    frontier_table,
    held_out_table,
    reliability_table,
    selector_table,
    sweep_table,
    to_markdown,
)
from nad_agents.evaluation.verdicts import read_verdicts
from nad_agents.runs import RecordedRun

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["write_report", "write_report_files"]

_SHOWN_PROBLEMS = 3
_SHOWN_CHARACTERS = 1500

_STYLE = """
:root { color-scheme: light dark; --text: #222; --back: #fff; --faint: #555; --line: #ddd; --strong: #888; }
@media (prefers-color-scheme: dark) {
  :root { --text: #ddd; --back: #16181c; --faint: #a5a9b0; --line: #3a3e45; --strong: #777; }
}
body { font: 15px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1rem;
  color: var(--text); background: var(--back); overflow-wrap: anywhere; }
table { border-collapse: collapse; font-size: 13px; margin: 1rem 0; display: block; overflow-x: auto; }
th, td { padding: .25rem .7rem; text-align: left; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { border-bottom: 2px solid var(--strong); }
figure { margin: 1rem 0; overflow-x: auto; }
img { max-width: 100%; height: auto; border-radius: 4px; }
pre { overflow-x: auto; white-space: pre-wrap; border-left: 3px solid var(--line); padding-left: .7rem; }
h2 { margin-top: 2.5rem; } .note { color: var(--faint); }
/* plots keep a size at which their labels can be read, and names of selectors leave room for figures */
@media (max-width: 44rem) {
  img { max-width: none; width: 44rem; }
  th:first-child, td:first-child { white-space: normal; min-width: 7rem; }
}
/* a plot's colors keep their hue, and white becomes the page's dark */
@media (prefers-color-scheme: dark) { img { filter: invert(.91) hue-rotate(180deg); } }
"""


def write_report(
    run: RecordedRun,
    folder: str | Path,
    *,
    selectors: Collection[str] | None = None,
    workers: int = 1,
    draws: int = 10_000,
    half_seed: int = 0,
) -> Evidence:
    """Measure a scored run and write ``report.html``, ``report.md``, ``figures.json`` and the plots as PNG files.

    Args:
        run: The run, which need not be recorded and scored completely.
        folder: Folder to write to, created if absent; files in it are replaced.
        selectors: Names of the selectors to compare; None for all.
        workers: Number of processes.
        draws: Number of bootstrap resamples.
        half_seed: Seed of the half of the problems that choices are made on.

    Raises:
        RunError: Nothing is scored, or a record is damaged.
        ConfigurationError: A selector cannot be compared on this run.
        MissingDependencyError: matplotlib is not installed.
    """
    plan = Plan.for_run(run, selectors=selectors)
    measures = measure_run(run, plan, workers=workers)
    evidence = collect_evidence(measures, plan, draws=draws, half_seed=half_seed)
    write_report_files(run, evidence, draw_plots(measures, evidence, plan), folder)
    return evidence


def write_report_files(run: RecordedRun, evidence: Evidence, plots: Mapping[str, Figure], folder: str | Path) -> None:
    """Write the files of a report.

    Args:
        run: The run that was evaluated.
        evidence: The figures of the run.
        plots: Matplotlib figures by name.
        folder: Folder to write to, created if absent; files in it are replaced.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tables = _tables(evidence)
    summary = _summarize_run(run, evidence)
    (folder / "report.md").write_text(_markdown(summary, tables), encoding="utf-8")
    (folder / "report.html").write_text(_page(run, summary, tables, _save_plots(plots, folder)), encoding="utf-8")
    figures = {"run": run.manifest.model_dump(mode="json"), "evidence": asdict(evidence)}
    # JSON has no NaN
    (folder / "figures.json").write_text(json.dumps(_without_nan(figures), indent=1), encoding="utf-8")


def _summarize_run(run: RecordedRun, evidence: Evidence) -> list[str]:
    """Describe in sentences what was run, how much of it is complete, and how to read the figures.

    Args:
        run: The recorded run.
        evidence: The comparison of the selectors on the run.
    """
    manifest = run.manifest
    task, model, sampling = manifest.task, manifest.model, manifest.sampling
    lines = [
        *evidence.warnings,
        f"{task.get('file', 'problems')}: {evidence.problems} of {len(manifest.problems)} problems are recorded and "
        f"scored, with {evidence.candidates} candidates each; {evidence.mixed} problems have right and wrong "
        "candidates, and only these tell selectors apart.",
        f"Model {model.get('name')} ({model.get('dtype')}), temperature {sampling.get('temperature')}, top-p "
        f"{sampling.get('top_p')}, top-k {sampling.get('top_k')}, at most {sampling.get('max_new_tokens')} tokens, "
        f"where {100 * evidence.cut:.1f}% of the candidates were cut; seed {sampling.get('seed')}.",
    ]
    if not math.isnan(evidence.seconds):
        lines.append(
            f"Generating the candidates of a problem took {evidence.seconds:.1f} s and {evidence.tokens:.0f} tokens on "
            f"average ({model.get('device')}; seconds are shared where problems were generated together)."
        )
    if evidence.halvings is not None and evidence.mixed:
        halvings = evidence.halvings
        chosen = ", ".join(f"{label} {100 * share:.0f}%" for label, share in halvings.choices[:3])
        lines.append(
            f"Over {halvings.halvings} random halves, the selector that was best on one half gained "
            f"{100 * halvings.gain:+.1f} points over random on the other ({100 * halvings.expected:+.1f} on its own); "
            f"chosen most often: {chosen}."
        )
    if not evidence.mixed:
        return lines
    lines.append(
        "Intervals are 95% percentile bootstrap intervals over problems. One asterisk marks a gain over random whose "
        f"interval excludes 0; of {len(evidence.rows)} selectors about one in twenty would have it by chance. Two mark "
        "a gain that holds when all selectors are looked at together (max-t bootstrap, 5%)."
    )
    lines.append(
        '"With the examples" walks the ranking to the first candidate that satisfies the examples in its prompt. '
        '"Without length" is what is left of a score after a line on the candidates\' lengths within the problem.'
    )
    return lines


def _tables(evidence: Evidence) -> dict[str, Table]:
    if not evidence.mixed:
        return {"Neurons, entropy, agreement": findings_table(evidence)}
    tables = {"Selectors": selector_table(evidence)}
    if evidence.held_out:
        tables["Chosen on one half of the problems, reported on the other"] = held_out_table(evidence)
    if evidence.reliability:
        tables["Confidence: the estimated probability that the pick is right, and how often it is"] = reliability_table(
            evidence
        )
    tables["Neurons, entropy, agreement"] = findings_table(evidence)
    for sweep, (title, _) in SWEEPS.items():
        if any(point.sweep == sweep for point in evidence.sweeps):
            tables[title] = sweep_table(evidence, sweep)
    tables["The fewest tokens for an accuracy"] = frontier_table(evidence)
    tables["By difficulty, which is the share of right candidates: below 1/3, up to 2/3, above"] = difficulty_table(
        evidence
    )
    return tables


def _save_plots(plots: Mapping[str, Figure], folder: Path) -> dict[str, str]:
    """Write every plot as a PNG file; returns the files' content in base64, for the page."""
    encoded = {}
    for name, figure in plots.items():
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=130)
        (folder / f"{name}.png").write_bytes(buffer.getvalue())
        encoded[name] = base64.b64encode(buffer.getvalue()).decode("ascii")
    return encoded


def _markdown(summary: list[str], tables: dict[str, Table]) -> str:
    parts = ["\n\n".join(summary), *(f"## {title}\n\n{to_markdown(table)}" for title, table in tables.items())]
    return "\n\n".join(parts) + "\n"


def _page(run: RecordedRun, summary: list[str], tables: dict[str, Table], plots: dict[str, str]) -> str:
    title = f"{run.manifest.model.get('name')} on {run.manifest.task.get('file')}"
    parts = [f"<h1>{escape(title)}</h1>", *(f"<p>{escape(line)}</p>" for line in summary)]
    for name, data in plots.items():
        caption = escape(PLOTS[name][1])
        # focusable by keyboard, since the element scrolls sideways on a narrow screen
        image = f'<img alt="{caption}" src="data:image/png;base64,{data}">'
        parts.append(f'<h2>{caption}</h2><figure tabindex="0">{image}</figure>')
    for heading, (head, rows) in tables.items():
        cells = "".join(f"<th>{escape(cell)}</th>" for cell in head)
        body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
        parts.append(f'<h2>{escape(heading)}</h2><table tabindex="0"><tr>{cells}</tr>{body}</table>')
    parts += _candidates_shown(run)
    settings = json.dumps(run.manifest.model_dump(mode="json", exclude={"problems"}), indent=1)
    parts.append(f"<h2>Settings</h2><pre>{escape(settings)}</pre>")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title>"
        f"<style>{_STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )


def _candidates_shown(run: RecordedRun) -> list[str]:
    """Return some candidates with their questions and verdicts, those of one problem of each outcome first."""
    verdicts = read_verdicts(run.folder)
    scored = [problem for problem in run.problems if problem in verdicts]
    outcomes = {problem: (any(verdicts[problem].correct), all(verdicts[problem].correct)) for problem in scored}
    first = {outcome: problem for problem, outcome in reversed(outcomes.items())}
    shown = list(dict.fromkeys([*first.values(), *scored]))[:_SHOWN_PROBLEMS]
    parts = ["<h2>Some candidates</h2>"]
    for problem in sorted(shown, key=scored.index):
        head, judged = run.header(problem), verdicts[problem]
        parts.append(f"<h3>{escape(problem)}</h3>{_cut_text(str(head['task'].get('question', '')))}")
        right = next((i for i, correct in enumerate(judged.correct) if correct), None)
        wrong = next((i for i, correct in enumerate(judged.correct) if not correct), None)
        for index in (right, wrong):
            if index is None:
                continue
            candidate = head["candidates"][index]
            reason = judged.reasons[index]
            verdict = "right" if judged.correct[index] else f"wrong ({reason})" if reason else "wrong"
            ended = ", cut at the token limit" if candidate.get("finish_reason") == "length" else ""
            parts.append(f"<p>Candidate {index}: {escape(verdict)}{ended}</p>{_cut_text(str(candidate['text']))}")
    return parts


def _cut_text(text: str) -> str:
    cut = text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + " …"
    return f"<pre>{escape(cut)}</pre>" if cut.strip() else '<p class="note">(empty)</p>'


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value
