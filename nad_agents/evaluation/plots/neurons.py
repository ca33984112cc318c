"""Plots of activated neurons: similarities of candidates, counts against entropy, growth of the sets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nad_agents.evaluation.measures import ProblemMeasures
from nad_agents.evaluation.plots.style import CORRECT_COLOR, INCORRECT_COLOR, PlotData
from nad_agents.evaluation.statistics import Resampling
from nad_agents.neurons.comparison import ComparisonConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["classical_mds", "plot_entropy", "plot_growth", "plot_map", "plot_similarity"]

_CHUNK_SIZE = ComparisonConfig().chunk_size
_LONGEST_TITLE = 20
"""Number of title characters that fit above one of several adjacent plots."""


def plot_similarity(data: PlotData) -> Figure | None:
    """Plot the similarity matrices of a few problems, their candidates ordered by knn's ranking."""
    knn = data.knn_index
    if not data.examples or knn is None:
        return None
    figure: Figure = data.new_figure(figsize=(3.0 * len(data.examples) + 0.8, 3.3))
    row = figure.subplots(1, len(data.examples), squeeze=False)[0]
    apart = [m.similarity[~np.eye(len(m.similarity), dtype=bool)] for m in data.examples]
    low, high = min(float(a.min()) for a in apart), max(float(a.max()) for a in apart)
    for axes, m in zip(row, data.examples, strict=True):
        order = m.rankings[knn]
        # the diagonal is left out, because its ones would use up the color scale
        matrix = np.where(np.eye(len(order), dtype=bool), np.nan, m.similarity[np.ix_(order, order)])
        image = axes.imshow(matrix, cmap="cividis", vmin=low, vmax=high)
        names = [f"{'right' if m.correct[i] else 'wrong'}" if len(order) <= 16 else "" for i in order]
        axes.set_xticks([])
        axes.set_yticks(range(len(order)), names, fontsize=8)
        for label, candidate in zip(axes.get_yticklabels(), order, strict=True):
            label.set_color(CORRECT_COLOR if m.correct[candidate] else INCORRECT_COLOR)
            label.set_fontweight("bold" if m.correct[candidate] else "normal")
        axes.tick_params(length=0)
        axes.set_title(_short(m.problem), fontsize=10)
    figure.colorbar(image, ax=row, shrink=0.75, label="Jaccard similarity")
    figure.supxlabel("candidates, ordered by knn score, best first", fontsize=10)
    return figure


def plot_map(data: PlotData) -> Figure | None:
    """Plot a few problems' candidates as points in a plane, whose distances approximate 1 - Jaccard."""
    knn = data.knn_index
    if not data.examples or knn is None:
        return None
    figure: Figure = data.new_figure(figsize=(3.0 * len(data.examples) + 0.4, 3.6))
    row = figure.subplots(1, len(data.examples), squeeze=False)[0]
    for axes, m in zip(row, data.examples, strict=True):
        points = classical_mds(1 - m.similarity)
        for right, color, mark in ((True, CORRECT_COLOR, "o"), (False, INCORRECT_COLOR, "X")):
            chosen = points[m.correct == right]
            axes.scatter(
                chosen[:, 0], chosen[:, 1], c=color, marker=mark, s=60, alpha=0.85, linewidths=0.5, edgecolors="white"
            )
        pick = points[m.rankings[knn, 0]]
        axes.scatter(*pick, s=190, facecolors="none", edgecolors="black", linewidths=1.4)
        axes.set_title(_short(m.problem), fontsize=10)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.margins(0.18)
        axes.set_aspect("equal", "datalim")
    for mark, color, label in (("o", CORRECT_COLOR, "right"), ("X", INCORRECT_COLOR, "wrong")):
        row[0].scatter([], [], marker=mark, c=color, s=60, label=label)
    row[0].scatter([], [], s=120, facecolors="none", edgecolors="black", label="pick of knn")
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def classical_mds(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return points in the plane whose distances approximate the given ones (classical multidimensional scaling).

    Args:
        distance: Float64 [N, N].

    Returns:
        Float64 [N, 2].
    """
    n = len(distance)
    centering = np.eye(n) - 1 / n
    values, vectors = np.linalg.eigh(-0.5 * centering @ distance**2 @ centering)
    points = np.zeros((n, 2))
    best = np.argsort(-values)[: min(2, n)]
    points[:, : len(best)] = vectors[:, best] * np.sqrt(np.maximum(values[best], 0))
    return points


def plot_entropy(data: PlotData) -> Figure | None:
    """Plot the neuron count of each chunk against its mean entropy."""
    points = np.concatenate([m.chunk_points for m in data.measures])
    if len(points) < 3:
        return None
    figure: Figure = data.new_figure(figsize=(6.5, 4.4))
    axes = figure.subplots()
    drawn = axes.hexbin(points[:, 1], points[:, 0], gridsize=40, bins="log", cmap="cividis", mincnt=1, linewidths=0)
    counts = np.asarray(drawn.get_array(), dtype=float)
    # matplotlib would write these whole numbers as powers of ten on a logarithmic scale
    figure.colorbar(drawn, label="chunks", format="%d", ticks=_round_counts(int(np.nanmax(counts))))
    pearson, spearman = (data.evidence.count_entropy[f"chunk, {kind}"] for kind in ("Pearson", "Spearman"))
    axes.set_title(
        f"Pearson {pearson.value:.2f} [{pearson.low:.2f}, {pearson.high:.2f}], "
        f"Spearman {spearman.value:.2f} [{spearman.low:.2f}, {spearman.high:.2f}]"
    )
    axes.set_xlabel("mean entropy of a chunk, nats")
    axes.set_ylabel("unique activated neurons of the chunk")
    return figure


def _round_counts(most: int) -> list[int]:
    """Return 1, 2, 5, 10, 20, ... up to a count, and the count itself."""
    steps = [step * 10**power for power in range(len(str(most))) for step in (1, 2, 5)]
    return [step for step in steps if step < 0.8 * most] + [most]


def _short(problem: str) -> str:
    """Return a problem's name, without its middle if the name is too long for a title."""
    if len(problem) <= _LONGEST_TITLE:
        return problem
    half = (_LONGEST_TITLE - 1) // 2
    return f"{problem[:half]}…{problem[-half:]}"


def plot_growth(data: PlotData) -> Figure | None:
    """Plot how the activated sets of right and of wrong candidates grow with the tokens, and the difference."""
    mixed = [m for m in data.measures if m.correct.any() and not m.correct.all()]
    if not mixed:
        return None
    sample = Resampling(len(mixed), draws=2000)
    right, wrong, apart, tokens = [], [], [], []
    for chunk in range(max(len(g) for m in mixed for g in m.growth)):
        # problems without both kinds at this length would shift the level of one curve only
        sizes = np.array([_sizes_at(m, chunk) for m in mixed])
        if np.isfinite(sizes[:, 0]).sum() < max(3, len(mixed) // 4):
            break
        tokens.append(_CHUNK_SIZE * (chunk + 1))
        right.append(sample.mean(sizes[:, 0]).value)
        wrong.append(sample.mean(sizes[:, 1]).value)
        apart.append(sample.mean(sizes[:, 1] - sizes[:, 0]))
    if not tokens:
        return None
    figure: Figure = data.new_figure(figsize=(9.5, 4.0))
    level, difference = figure.subplots(1, 2)
    level.plot(tokens, right, "-o", color=CORRECT_COLOR, ms=4, label="right")
    level.plot(tokens, wrong, "--X", color=INCORRECT_COLOR, ms=5, label="wrong")
    level.set_ylim(bottom=0)
    level.set_ylabel("unique activated neurons so far")
    level.legend()
    difference.axhline(0, color="black", lw=0.8, ls="--")
    difference.plot(tokens, [e.value for e in apart], "-o", color="black", ms=4)
    difference.fill_between(tokens, [e.low for e in apart], [e.high for e in apart], color="#777777", alpha=0.3, lw=0)
    difference.set_ylabel("wrong minus right, with 95% interval")
    for axes in (level, difference):
        axes.set_xlabel("tokens")
    figure.suptitle("over problems with right and wrong candidates of that length", fontsize=10)
    return figure


def _sizes_at(m: ProblemMeasures, chunk: int) -> tuple[float, float]:
    """Return the mean neurons after a chunk of right and of wrong candidates; NaN for both if either has none."""
    long = [(g[chunk], ok) for g, ok in zip(m.growth, m.correct, strict=True) if len(g) > chunk]
    right, wrong = ([int(size) for size, ok in long if bool(ok) is kind] for kind in (True, False))
    return (float(np.mean(right)), float(np.mean(wrong))) if right and wrong else (np.nan, np.nan)
