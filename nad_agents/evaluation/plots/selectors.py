"""Plots that compare selectors: accuracy, AUROC, tokens spent, and how reliable agreement is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nad_agents.evaluation.plots.style import CORRECT_COLOR, FAMILY_COLORS, FAMILY_MARKERS, PlotData
from nad_agents.evaluation.statistics import Resampling
from nad_agents.evaluation.tables import significance_marks

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_accuracy", "plot_auroc", "plot_reliability", "plot_tokens"]

_MARKERS = {"knn": "o", "medoid": "s", "min_act": "^", "mean_logprob": "D", "deepconf": "v", "nad_fusion": "P"}
_LINEFAMILY_COLORS = {
    "knn": "#0072B2",
    "medoid": "#56B4E9",
    "min_act": "#009E73",
    "mean_logprob": "#D55E00",
    "deepconf": "#E69F00",
    "nad_fusion": "#CC79A7",
}


def plot_accuracy(data: PlotData) -> Figure | None:
    """Plot every selector's accuracy with its interval, between random and oracle."""
    if not data.evidence.mixed:
        return None
    rows = list(reversed(data.evidence.rows))
    figure: Figure = data.new_figure(figsize=(8.5, 1.6 + 0.27 * len(rows)))
    axes = figure.subplots()
    for place, row in enumerate(rows):
        value = 100 * row.accuracy.value
        low, high = 100 * row.accuracy.low, 100 * row.accuracy.high
        axes.plot([low, high], [place, place], color=FAMILY_COLORS[row.family], lw=2, solid_capstyle="butt")
        axes.plot(value, place, FAMILY_MARKERS[row.family], color=FAMILY_COLORS[row.family], ms=6)
        axes.text(high + 0.6, place, significance_marks(row).strip(), va="center", fontsize=12)
    top = len(rows) - 0.35
    # the oracle is never left of random, so names on the outer sides cannot meet
    for estimate, dashes, name, side in (
        (data.evidence.average, "--", "random", "right"),
        (data.evidence.oracle, ":", "oracle", "left"),
    ):
        axes.vlines(100 * estimate.value, -0.7, top, color="black", ls=dashes, lw=1)
        axes.text(100 * estimate.value, top, name, ha=side, va="bottom")
    axes.set_yticks(range(len(rows)), [row.label for row in rows])
    axes.set_ylim(-0.7, len(rows) + 0.3)
    axes.set_xlabel(
        f"problems with a correct pick, %; 95% intervals over {data.evidence.problems} problems\n"
        "* the interval of the paired gain over random excludes 0\n** it does so for all selectors together"
    )
    for family, color in FAMILY_COLORS.items():
        if any(row.family == family for row in rows):
            axes.plot([], [], FAMILY_MARKERS[family], ls="-", color=color, label=family)
    figure.legend(loc="outside upper center", ncols=6, fontsize=9, columnspacing=1.2, handletextpad=0.4)
    return figure


def plot_auroc(data: PlotData) -> Figure | None:
    """Plot how well each score separates right and wrong candidates of one problem, with and without length."""
    rows = sorted((r for r in data.evidence.rows if r.auroc.n), key=lambda r: r.auroc.value)
    if not rows:
        return None
    figure: Figure = data.new_figure(figsize=(8.5, 1.6 + 0.27 * len(rows)))
    axes = figure.subplots()
    for place, row in enumerate(rows):
        for estimate, mark, shift, color in (
            (row.auroc, FAMILY_MARKERS[row.family], 0.15, FAMILY_COLORS[row.family]),
            (row.auroc_length_controlled, "|", -0.2, "#999999"),
        ):
            axes.plot([estimate.low, estimate.high], [place + shift] * 2, color=color, lw=1.5)
            axes.plot(estimate.value, place + shift, mark, color=color, ms=5)
    axes.axvline(0.5, color="black", ls="--", lw=1)
    axes.set_yticks(range(len(rows)), [row.label for row in rows])
    axes.set_ylim(-0.7, len(rows) - 0.3)
    axes.set_xlabel(
        f"within-problem AUROC, 95% intervals\nover {data.evidence.mixed} problems with right and wrong candidates\n"
        "colored: the score; gray below it: what is left of it after length"
    )
    return figure


def plot_tokens(data: PlotData) -> Figure | None:
    """Plot accuracy against the tokens that selecting at a position takes."""
    points = [p for p in data.evidence.sweeps if p.sweep == "position"]
    if not points or not data.evidence.mixed:
        return None
    figure: Figure = data.new_figure(figsize=(8.5, 4.6))
    axes = figure.subplots()
    for label, mark in _MARKERS.items():
        if not any(p.label == label for p in points):
            continue
        mine = sorted((p for p in points if p.label == label), key=lambda p: p.tokens)
        axes.plot(
            [p.tokens for p in mine], [100 * p.accuracy.value for p in mine], marker=mark, ms=7, lw=1.3,
            color=_LINEFAMILY_COLORS[label], label=label,
        )  # fmt: skip
    single = float(np.mean([m.tokens.mean() for m in data.measures]))
    axes.plot(single, 100 * data.evidence.average.value, "*", color="black", ms=12, label="one sample")
    axes.axhline(100 * data.evidence.average.value, color="black", ls="--", lw=0.8)
    settings = sorted({p.setting for p in points if isinstance(p.setting, int) and p.setting > 0})
    axes.set_xlabel(f"tokens generated per problem: selecting after {', '.join(map(str, settings))} or all tokens")
    axes.set_ylabel("problems with a correct pick, %")
    half = 50 * (data.evidence.average.high - data.evidence.average.low)
    axes.set_title(f"{data.evidence.problems} problems; 95% intervals are about ±{half:.0f} points wide", fontsize=10)
    figure.legend(loc="outside right upper", fontsize=9)
    return figure


def plot_reliability(data: PlotData) -> Figure | None:
    """Plot how often knn's pick is right, by bins of its agreement."""
    knn = data.knn_index
    if knn is None or not data.evidence.mixed:
        return None
    agreement = np.array([m.scores[knn, m.rankings[knn, 0]] for m in data.measures])
    right = np.array([m.correct[m.rankings[knn, 0]] for m in data.measures], dtype=np.float64)
    bins = min(5, len(data.measures) // 8)
    if bins < 2:
        return None
    figure: Figure = data.new_figure(figsize=(6.0, 4.2))
    axes = figure.subplots()
    sample = Resampling(len(data.measures))
    place = np.argsort(np.argsort(agreement, kind="stable"), kind="stable") * bins // len(agreement)
    for number in range(bins):
        inside = place == number
        estimate = sample.ratio(right * inside, inside.astype(np.float64))
        x = float(agreement[inside].mean())
        axes.plot([x, x], [100 * estimate.low, 100 * estimate.high], color=CORRECT_COLOR, lw=2)
        axes.plot(x, 100 * estimate.value, "o", color=CORRECT_COLOR, ms=8)
    axes.set_ylim(-3, 103)
    axes.margins(x=0.12)
    sizes = sorted({int((place == number).sum()) for number in range(bins)})
    axes.set_xlabel(
        "agreement of the pick: mean Jaccard similarity to its 3 nearest candidates\n"
        f"{' or '.join(map(str, sizes))} picks per point"
    )
    axes.set_ylabel("correct picks, %")
    return figure
