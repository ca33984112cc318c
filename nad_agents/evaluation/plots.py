"""The pictures of a report. Colours are those of Okabe and Ito, which colour-blind readers can tell apart.

Needs matplotlib: ``pip install nad-agents[evaluation]``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nad_agents.evaluation.evidence import Evidence
from nad_agents.evaluation.measures import Plan, ProblemMeasures
from nad_agents.evaluation.statistics import Resampling
from nad_agents.evaluation.tables import marks
from nad_agents.exceptions import MissingDependencyError
from nad_agents.neurons.activated_sets import ComparisonConfig

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.figure import Figure

__all__ = ["PICTURES", "draw_pictures"]

_COLOURS = {
    "agreement": "#0072B2",
    "sparsity": "#009E73",
    "confidence": "#D55E00",
    "fusion": "#CC79A7",
    "execution": "#000000",
    "baseline": "#777777",
}
# shapes as well, for those who cannot tell the colours
_SHAPES = {"agreement": "o", "sparsity": "^", "confidence": "D", "fusion": "P", "execution": "s", "baseline": "v"}
_CHUNK = ComparisonConfig().chunk_size
_RIGHT, _WRONG = "#0072B2", "#D55E00"
_MARKS = {"knn": "o", "medoid": "s", "min_act": "^", "mean_logprob": "D", "deepconf": "v", "nad_fusion": "P"}
_LINE_COLOURS = {
    "knn": "#0072B2",
    "medoid": "#56B4E9",
    "min_act": "#009E73",
    "mean_logprob": "#D55E00",
    "deepconf": "#E69F00",
    "nad_fusion": "#CC79A7",
}
_STYLE: Any = {
    "figure.dpi": 110,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}


@dataclass(frozen=True)
class _Scene:
    """What a picture is drawn from: matplotlib's figure class, all measures and figures, the problems to show."""

    figure: Any
    measures: Sequence[ProblemMeasures]
    evidence: Evidence
    plan: Plan
    shown: Sequence[ProblemMeasures]


@contextmanager
def _matplotlib() -> Iterator[Any]:
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        msg = "pictures need matplotlib; install it with `pip install nad-agents[evaluation]`"
        raise MissingDependencyError(msg) from error
    with rc_context(_STYLE):
        # a figure of its own, not pyplot's: no display, no global state, safe in threads
        yield Figure


def draw_pictures(measures: Sequence[ProblemMeasures], evidence: Evidence, plan: Plan) -> dict[str, Figure]:
    """Draw every picture.

    Args:
        measures: of all problems.
        evidence: their figures.
        plan: what was measured.

    Returns:
        Figures by name, in the order of a report; a picture for which there is no data is left out.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    shown = _mixed_problems(measures)
    with _matplotlib() as figure:
        scene = _Scene(figure, measures, evidence, plan, shown)
        drawn = {name: draw(scene) for name, (draw, _) in PICTURES.items()}
    return {name: picture for name, picture in drawn.items() if picture is not None}


def _mixed_problems(measures: Sequence[ProblemMeasures]) -> list[ProblemMeasures]:
    """Up to four problems with right and wrong candidates, the most balanced first; the earlier ones among equals."""
    mixed = [m for m in measures if m.correct.any() and not m.correct.all()]
    return sorted(mixed, key=lambda m: abs(float(m.correct.mean()) - 0.5))[:4]


def _knn(s: _Scene) -> int | None:
    """The place of knn among the variants; None when it is not compared."""
    return next((place for place, variant in enumerate(s.plan.standard) if variant.label == "knn"), None)


def _accuracy(s: _Scene) -> Figure:
    rows = list(reversed(s.evidence.rows))
    picture: Figure = s.figure(figsize=(8.5, 1.6 + 0.27 * len(rows)))
    axes = picture.subplots()
    for place, row in enumerate(rows):
        value = 100 * row.accuracy.value
        low, high = 100 * row.accuracy.low, 100 * row.accuracy.high
        axes.plot([low, high], [place, place], color=_COLOURS[row.family], lw=2, solid_capstyle="butt")
        axes.plot(value, place, _SHAPES[row.family], color=_COLOURS[row.family], ms=6)
        axes.text(high + 0.6, place, marks(row).strip(), va="center", fontsize=12)
    top = len(rows) - 0.35
    for estimate, dashes, name in ((s.evidence.average, "--", "random"), (s.evidence.oracle, ":", "oracle")):
        axes.vlines(100 * estimate.value, -0.7, top, color="black", ls=dashes, lw=1)
        axes.text(100 * estimate.value, top, name, ha="center", va="bottom")
    axes.set_yticks(range(len(rows)), [row.label for row in rows])
    axes.set_ylim(-0.7, len(rows) + 0.3)
    axes.set_xlabel(
        f"problems with a correct pick, %; 95% intervals over {s.evidence.problems} problems\n"
        "* the interval of the paired gain over random excludes 0\n** it does so for all selectors together"
    )
    for family, colour in _COLOURS.items():
        if any(row.family == family for row in rows):
            axes.plot([], [], _SHAPES[family], ls="-", color=colour, label=family)
    picture.legend(loc="outside upper center", ncols=6, fontsize=9, columnspacing=1.2, handletextpad=0.4)
    return picture


def _auroc(s: _Scene) -> Figure | None:
    rows = sorted((r for r in s.evidence.rows if r.auroc.n), key=lambda r: r.auroc.value)
    if not rows:
        return None
    picture: Figure = s.figure(figsize=(8.5, 1.6 + 0.27 * len(rows)))
    axes = picture.subplots()
    for place, row in enumerate(rows):
        for estimate, mark, shift, colour in (
            (row.auroc, _SHAPES[row.family], 0.15, _COLOURS[row.family]),
            (row.auroc_length_controlled, "|", -0.2, "#999999"),
        ):
            axes.plot([estimate.low, estimate.high], [place + shift] * 2, color=colour, lw=1.5)
            axes.plot(estimate.value, place + shift, mark, color=colour, ms=5)
    axes.axvline(0.5, color="black", ls="--", lw=1)
    axes.set_yticks(range(len(rows)), [row.label for row in rows])
    axes.set_ylim(-0.7, len(rows) - 0.3)
    axes.set_xlabel(
        f"within-problem AUROC, 95% intervals\nover {s.evidence.mixed} problems with right and wrong candidates\n"
        "coloured: the score; grey below it: what is left of it after length"
    )
    return picture


def _pairs(s: _Scene) -> Figure | None:
    knn = _knn(s)
    if not s.shown or knn is None:
        return None
    picture: Figure = s.figure(figsize=(3.0 * len(s.shown) + 0.8, 3.3))
    row = picture.subplots(1, len(s.shown), squeeze=False)[0]
    apart = [m.similarity[~np.eye(len(m.similarity), dtype=bool)] for m in s.shown]
    low, high = min(float(a.min()) for a in apart), max(float(a.max()) for a in apart)
    for axes, m in zip(row, s.shown, strict=True):
        order = m.rankings[knn]
        # a candidate equals itself, which would use up the scale
        matrix = np.where(np.eye(len(order), dtype=bool), np.nan, m.similarity[np.ix_(order, order)])
        image = axes.imshow(matrix, cmap="cividis", vmin=low, vmax=high)
        names = [f"{'right' if m.correct[i] else 'wrong'}" if len(order) <= 16 else "" for i in order]
        axes.set_xticks([])
        axes.set_yticks(range(len(order)), names, fontsize=8)
        for label, candidate in zip(axes.get_yticklabels(), order, strict=True):
            label.set_color(_RIGHT if m.correct[candidate] else _WRONG)
            label.set_fontweight("bold" if m.correct[candidate] else "normal")
        axes.tick_params(length=0)
        axes.set_title(m.problem, fontsize=10)
    picture.colorbar(image, ax=row, shrink=0.75, label="Jaccard similarity")
    picture.supxlabel("candidates, ordered by knn score, best first", fontsize=10)
    return picture


def _map(s: _Scene) -> Figure | None:
    knn = _knn(s)
    if not s.shown or knn is None:
        return None
    picture: Figure = s.figure(figsize=(3.0 * len(s.shown) + 0.4, 3.6))
    row = picture.subplots(1, len(s.shown), squeeze=False)[0]
    for axes, m in zip(row, s.shown, strict=True):
        points = classical_mds(1 - m.similarity)
        for right, colour, mark in ((True, _RIGHT, "o"), (False, _WRONG, "X")):
            chosen = points[m.correct == right]
            axes.scatter(
                chosen[:, 0], chosen[:, 1], c=colour, marker=mark, s=60, alpha=0.85, linewidths=0.5, edgecolors="white"
            )
        pick = points[m.rankings[knn, 0]]
        axes.scatter(*pick, s=190, facecolors="none", edgecolors="black", linewidths=1.4)
        axes.set_title(m.problem, fontsize=10)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.margins(0.18)
        axes.set_aspect("equal", "datalim")
    for mark, colour, label in (("o", _RIGHT, "right"), ("X", _WRONG, "wrong")):
        row[0].scatter([], [], marker=mark, c=colour, s=60, label=label)
    row[0].scatter([], [], s=120, facecolors="none", edgecolors="black", label="pick of knn")
    picture.legend(loc="outside lower center", ncols=3)
    return picture


def classical_mds(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points in the plane whose distances come near those given, float64 [N, 2]."""
    n = len(distance)
    centre = np.eye(n) - 1 / n
    values, vectors = np.linalg.eigh(-0.5 * centre @ distance**2 @ centre)
    points = np.zeros((n, 2))
    best = np.argsort(-values)[: min(2, n)]
    points[:, : len(best)] = vectors[:, best] * np.sqrt(np.maximum(values[best], 0))
    return points


def _entropy(s: _Scene) -> Figure | None:
    points = np.concatenate([m.chunk_points for m in s.measures])
    if len(points) < 3:
        return None
    picture: Figure = s.figure(figsize=(6.5, 4.4))
    axes = picture.subplots()
    drawn = axes.hexbin(points[:, 1], points[:, 0], gridsize=40, bins="log", cmap="cividis", mincnt=1, linewidths=0)
    picture.colorbar(drawn, label="chunks")
    pearson, spearman = (s.evidence.count_entropy[f"chunk, {kind}"] for kind in ("Pearson", "Spearman"))
    axes.set_title(
        f"Pearson {pearson.value:.2f} [{pearson.low:.2f}, {pearson.high:.2f}], "
        f"Spearman {spearman.value:.2f} [{spearman.low:.2f}, {spearman.high:.2f}]"
    )
    axes.set_xlabel("mean entropy of a chunk, nats")
    axes.set_ylabel("unique activated neurons of the chunk")
    return picture


def _growth(s: _Scene) -> Figure | None:
    mixed = [m for m in s.measures if m.correct.any() and not m.correct.all()]
    if not mixed:
        return None
    sample = Resampling(len(mixed), draws=2000)
    right, wrong, apart, tokens = [], [], [], []
    for chunk in range(max(len(g) for m in mixed for g in m.growth)):
        # only problems in which both kinds are that long: others would bring another level to one of the curves
        sizes = np.array([_sizes_at(m, chunk) for m in mixed])
        if np.isfinite(sizes[:, 0]).sum() < max(3, len(mixed) // 4):
            break
        tokens.append(_CHUNK * (chunk + 1))
        right.append(sample.mean(sizes[:, 0]).value)
        wrong.append(sample.mean(sizes[:, 1]).value)
        apart.append(sample.mean(sizes[:, 1] - sizes[:, 0]))
    if not tokens:
        return None
    picture: Figure = s.figure(figsize=(9.5, 4.0))
    level, difference = picture.subplots(1, 2)
    level.plot(tokens, right, "-o", color=_RIGHT, ms=4, label="right")
    level.plot(tokens, wrong, "--X", color=_WRONG, ms=5, label="wrong")
    level.set_ylim(bottom=0)
    level.set_ylabel("unique activated neurons so far")
    level.legend()
    difference.axhline(0, color="black", lw=0.8, ls="--")
    difference.plot(tokens, [e.value for e in apart], "-o", color="black", ms=4)
    difference.fill_between(tokens, [e.low for e in apart], [e.high for e in apart], color="#777777", alpha=0.3, lw=0)
    difference.set_ylabel("wrong minus right, with 95% interval")
    for axes in (level, difference):
        axes.set_xlabel("tokens")
    picture.suptitle("over problems with right and wrong candidates of that length", fontsize=10)
    return picture


def _sizes_at(m: ProblemMeasures, chunk: int) -> tuple[float, float]:
    """Mean neurons after a chunk of right and of wrong candidates; NaN twice unless there are both."""
    long = [(g[chunk], ok) for g, ok in zip(m.growth, m.correct, strict=True) if len(g) > chunk]
    right, wrong = ([int(size) for size, ok in long if bool(ok) is kind] for kind in (True, False))
    return (float(np.mean(right)), float(np.mean(wrong))) if right and wrong else (np.nan, np.nan)


def _tokens(s: _Scene) -> Figure | None:
    points = [p for p in s.evidence.sweeps if p.sweep == "position"]
    if not points:
        return None
    picture: Figure = s.figure(figsize=(8.5, 4.6))
    axes = picture.subplots()
    for label, mark in _MARKS.items():
        if not any(p.label == label for p in points):
            continue
        mine = sorted((p for p in points if p.label == label), key=lambda p: p.tokens)
        axes.plot(
            [p.tokens for p in mine], [100 * p.accuracy.value for p in mine], marker=mark, ms=7, lw=1.3,
            color=_LINE_COLOURS[label], label=label,
        )  # fmt: skip
    single = float(np.mean([m.tokens.mean() for m in s.measures]))
    axes.plot(single, 100 * s.evidence.average.value, "*", color="black", ms=12, label="one sample")
    axes.axhline(100 * s.evidence.average.value, color="black", ls="--", lw=0.8)
    settings = sorted({p.setting for p in points if isinstance(p.setting, int) and p.setting > 0})
    axes.set_xlabel(f"tokens generated per problem: selecting after {', '.join(map(str, settings))} or all tokens")
    axes.set_ylabel("problems with a correct pick, %")
    half = 50 * (s.evidence.average.high - s.evidence.average.low)
    axes.set_title(f"{s.evidence.problems} problems; 95% intervals are about ±{half:.0f} points wide", fontsize=10)
    picture.legend(loc="outside right upper", fontsize=9)
    return picture


def _reliability(s: _Scene) -> Figure | None:
    knn = _knn(s)
    if knn is None:
        return None
    agreement = np.array([m.scores[knn, m.rankings[knn, 0]] for m in s.measures])
    right = np.array([m.correct[m.rankings[knn, 0]] for m in s.measures], dtype=np.float64)
    bins = min(5, len(s.measures) // 8)
    if bins < 2:
        return None
    picture: Figure = s.figure(figsize=(6.0, 4.2))
    axes = picture.subplots()
    sample = Resampling(len(s.measures))
    place = np.argsort(np.argsort(agreement, kind="stable"), kind="stable") * bins // len(agreement)
    for number in range(bins):
        inside = place == number
        estimate = sample.ratio(right * inside, inside.astype(np.float64))
        x = float(agreement[inside].mean())
        axes.plot([x, x], [100 * estimate.low, 100 * estimate.high], color=_RIGHT, lw=2)
        axes.plot(x, 100 * estimate.value, "o", color=_RIGHT, ms=8)
        note = f"n={int(inside.sum())}"
        axes.annotate(note, (x, 100 * estimate.value), (7, -12), textcoords="offset points", fontsize=8)
    axes.set_ylim(-3, 103)
    axes.margins(x=0.12)
    axes.set_xlabel("agreement of the pick: mean Jaccard similarity to its 3 nearest candidates")
    axes.set_ylabel("correct picks, %")
    return picture


_Draw = Callable[[_Scene], "Figure | None"]

PICTURES: dict[str, tuple[_Draw, str]] = {
    "accuracy": (_accuracy, "Accuracy of every selector"),
    "auroc": (_auroc, "How well each score tells right from wrong candidates of one problem"),
    "tokens": (_tokens, "Accuracy against tokens spent"),
    "similarity": (_pairs, "Similarity of the candidates of four problems"),
    "map": (_map, "The same candidates as a map (classical multidimensional scaling of 1 - Jaccard)"),
    "entropy": (_entropy, "Activated neurons against entropy, per chunk of 32 tokens"),
    "growth": (_growth, "Growth of the activated set"),
    "reliability": (_reliability, "Does agreement say how likely the pick is right?"),
}
"""How each picture is drawn, and its title."""
