"""Shared by all plots: the data that they are drawn from, colors, and matplotlib without global state.

The colors are those of Okabe and Ito, which color-blind readers can tell apart; markers differ as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from nad_agents.evaluation.evidence import Evidence
from nad_agents.evaluation.measures import ProblemMeasures
from nad_agents.evaluation.plan import Plan
from nad_agents.evaluation.variants import Family
from nad_agents.exceptions import MissingDependencyError

__all__ = ["CORRECT_COLOR", "FAMILY_COLORS", "FAMILY_MARKERS", "INCORRECT_COLOR", "PlotData", "matplotlib_style"]

CORRECT_COLOR, INCORRECT_COLOR = "#0072B2", "#D55E00"

FAMILY_COLORS: Mapping[Family, str] = {
    "agreement": "#0072B2",
    "sparsity": "#009E73",
    "confidence": "#D55E00",
    "fusion": "#CC79A7",
    "execution": "#000000",
    "baseline": "#777777",
}

FAMILY_MARKERS: Mapping[Family, str] = {
    "agreement": "o",
    "sparsity": "^",
    "confidence": "D",
    "fusion": "P",
    "execution": "s",
    "baseline": "v",
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
class PlotData:
    """The data that a plot is drawn from.

    Attributes:
        new_figure: Matplotlib's `Figure` class.
        measures: The measures of every problem.
        evidence: The figures computed from them.
        plan: What was measured.
        examples: A few problems with right and wrong candidates, for plots that show single problems.
    """

    new_figure: Any
    measures: Sequence[ProblemMeasures]
    evidence: Evidence
    plan: Plan
    examples: Sequence[ProblemMeasures]

    @property
    def knn_index(self) -> int | None:
        """Position of knn among the standard variants; None when knn is not compared."""
        return next((index for index, variant in enumerate(self.plan.standard) if variant.label == "knn"), None)


@contextmanager
def matplotlib_style() -> Iterator[Any]:
    """Provide matplotlib's `Figure` class in a ``with`` block that applies the plots' style.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        msg = "pictures need matplotlib; install it with `pip install nad-agents[evaluation]`"
        raise MissingDependencyError(msg) from error
    with rc_context(_STYLE):
        # the class itself instead of pyplot needs no display, has no global state, and is safe in threads
        yield Figure
