"""The picture of accuracy against cost, with a line for each way to choose."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from policies import BY_ANSWERS, BY_PROGRAMS, UNTIL_PASSED, Policy, Replayed

from nad_agents.evaluation.plots.style import matplotlib_style

COLORS = {
    "at random": ("#777777", "v"),
    "agreement (knn)": ("#0072B2", "o"),
    "agreement, log-probability": ("#CC79A7", "P"),
    BY_PROGRAMS: ("#000000", "s"),
    BY_ANSWERS: ("#000000", "s"),
    'until="decided"': ("#E69F00", "D"),
    "the same, examples checked": ("#009E73", "^"),
    UNTIL_PASSED: ("#D55E00", "X"),
}

AXES = {
    "tokens": ("tokens generated per problem", (100, 200, 400, 800, 1600, 3200)),
    "programs": ("programs run in the sandbox per problem", (1, 2, 4, 8, 16, 32)),
}
"""Label and ticks of the axis of each cost."""


def draw(replayed: Sequence[Replayed], title: str, path: Path) -> None:
    """Draw accuracy against tokens and, where programs run, against these, with a line for each way to choose."""
    runs_programs = any(one.programs.any() for one in replayed)
    with matplotlib_style() as new_figure:
        figure = new_figure(figsize=(10 if runs_programs else 7.4, 4.6))
        parts = figure.subplots(1, 2 if runs_programs else 1, sharey=True, squeeze=False)[0]
        costs = ("tokens", "programs")[: len(parts)]
        for series, (color, marker) in COLORS.items():
            mine = [one for one in replayed if one.policy.series == series and shown(one.policy)]
            for axes, cost in zip(parts, costs, strict=True):
                points = sorted((float(getattr(one, cost).mean()), 100 * float(one.correct.mean())) for one in mine)
                if cost == "programs":
                    points = [point for point in points if point[0] > 0]
                if points:
                    axes.plot(*zip(*points, strict=True), marker=marker, ms=5, lw=1.3, color=color, label=series)
        parts[0].set(ylabel="problems solved, %")
        for axes, cost in zip(parts, costs, strict=True):
            words, ticks = AXES[cost]
            axes.set(xlabel=words, xscale="log")
            low, high = axes.get_xlim()
            axes.set_xticks([tick for tick in ticks if low <= tick <= high], minor=False)
            axes.set_xticklabels([f"{tick:,}" for tick in ticks if low <= tick <= high])
            axes.minorticks_off()
            axes.grid(alpha=0.25)
        figure.suptitle(title, fontsize=11)
        handles, labels = parts[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2 * len(parts), fontsize=9)
        figure.savefig(path, dpi=110)


def shown(policy: Policy) -> bool:
    """Return whether a policy has a point in the picture: of the sizes of waves, only the default."""
    wave = {UNTIL_PASSED: "wave 2", 'until="decided"': "wave 4"}.get(policy.series)
    return wave is None or policy.label.endswith(wave)
