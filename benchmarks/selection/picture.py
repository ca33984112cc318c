"""The picture of accuracy against cost, with a line for each way to choose."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from policies import UNTIL_PASSED, Policy, Replayed

from nad_agents.evaluation.plots.style import matplotlib_style

COLORS = {
    "at random": ("#777777", "v"),
    "agreement (knn)": ("#0072B2", "o"),
    "agreement, log-probability": ("#CC79A7", "P"),
    "by what programs do": ("#000000", "s"),
    'until="decided"': ("#E69F00", "D"),
    "the same, examples checked": ("#009E73", "^"),
    UNTIL_PASSED: ("#D55E00", "X"),
}


def draw(replayed: Sequence[Replayed], title: str, path: Path) -> None:
    """Draw accuracy against tokens, and against programs run, with a line for each way to choose."""
    with matplotlib_style() as new_figure:
        figure = new_figure(figsize=(10, 4.6))
        left, right = figure.subplots(1, 2, sharey=True)
        for series, (color, marker) in COLORS.items():
            mine = [one for one in replayed if one.policy.series == series and shown(one.policy)]
            for axes, cost in ((left, "tokens"), (right, "programs")):
                points = sorted((float(getattr(one, cost).mean()), 100 * float(one.correct.mean())) for one in mine)
                if cost == "programs":
                    points = [point for point in points if point[0] > 0]
                if points:
                    axes.plot(*zip(*points, strict=True), marker=marker, ms=5, lw=1.3, color=color, label=series)
        left.set(xlabel="tokens generated per problem", ylabel="problems solved, %", xscale="log")
        right.set(xlabel="programs run in the sandbox per problem", xscale="log")
        for axes, ticks in ((left, (100, 200, 400, 800, 1600, 3200)), (right, (1, 2, 4, 8, 16, 32))):
            low, high = axes.get_xlim()
            axes.set_xticks([tick for tick in ticks if low <= tick <= high], minor=False)
            axes.set_xticklabels([f"{tick:,}" for tick in ticks if low <= tick <= high])
            axes.minorticks_off()
            axes.grid(alpha=0.25)
        figure.suptitle(title, fontsize=11)
        handles, labels = left.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=9)
        figure.savefig(path, dpi=110)


def shown(policy: Policy) -> bool:
    """Return whether a policy has a point in the picture: of the sizes of waves, only the default."""
    wave = {UNTIL_PASSED: "wave 2", 'until="decided"': "wave 4"}.get(policy.series)
    return wave is None or policy.label.endswith(wave)
