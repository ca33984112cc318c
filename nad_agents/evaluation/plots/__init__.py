"""The plots of a report; they need matplotlib: ``pip install nad-agents[evaluation]``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from nad_agents.evaluation.evidence import Evidence
from nad_agents.evaluation.measures import ProblemMeasures
from nad_agents.evaluation.plan import Plan
from nad_agents.evaluation.plots.neurons import plot_entropy, plot_growth, plot_map, plot_similarity
from nad_agents.evaluation.plots.selectors import plot_accuracy, plot_auroc, plot_reliability, plot_tokens
from nad_agents.evaluation.plots.style import PlotData, matplotlib_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["PLOTS", "draw_plots"]

PLOTS: dict[str, tuple[Callable[[PlotData], Figure | None], str]] = {
    "accuracy": (plot_accuracy, "Accuracy of every selector"),
    "auroc": (plot_auroc, "How well each score tells right from wrong candidates of one problem"),
    "tokens": (plot_tokens, "Accuracy against tokens spent"),
    "similarity": (plot_similarity, "Similarity of the candidates of four problems"),
    "map": (plot_map, "The same candidates as a map (classical multidimensional scaling of 1 - Jaccard)"),
    "entropy": (plot_entropy, "Activated neurons against entropy, per chunk of 32 tokens"),
    "growth": (plot_growth, "Growth of the activated set"),
    "reliability": (plot_reliability, "Does agreement say how likely the pick is right?"),
}
"""How each plot is drawn, and its title, in the order of a report."""


def draw_plots(measures: Sequence[ProblemMeasures], evidence: Evidence, plan: Plan) -> dict[str, Figure]:
    """Draw every plot.

    Args:
        measures: The measures of all problems.
        evidence: The figures computed from them.
        plan: The plan that was measured.

    Returns:
        Matplotlib figures by name, in the order of a report; plots without data are left out.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    examples = _most_balanced_problems(measures)
    with matplotlib_style() as new_figure:
        data = PlotData(new_figure, measures, evidence, plan, examples)
        drawn = {name: plot(data) for name, (plot, _) in PLOTS.items()}
    return {name: figure for name, figure in drawn.items() if figure is not None}


def _most_balanced_problems(measures: Sequence[ProblemMeasures]) -> list[ProblemMeasures]:
    """Return up to four problems with right and wrong candidates, the most balanced first, else in order."""
    mixed = [m for m in measures if m.correct.any() and not m.correct.all()]
    return sorted(mixed, key=lambda m: abs(float(m.correct.mean()) - 0.5))[:4]
