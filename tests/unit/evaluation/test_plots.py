"""The plots of a report."""

from dataclasses import replace

import pytest
from matplotlib.text import Text

from nad_agents.evaluation.evidence import collect_evidence
from nad_agents.evaluation.measures import measure_problem
from nad_agents.evaluation.plan import Plan
from nad_agents.evaluation.plots import draw_plots
from nad_agents.evaluation.plots.neurons import classical_mds
from nad_agents.evaluation.tables import (
    difficulty_table,
    findings_table,
    selector_table,
)
from nad_agents.evaluation.variants import neighbour_sweep, position_sweep, standard_variants
from nad_agents.evaluation.verdicts import ProblemVerdicts
from tests.unit.evaluation.synthetic_runs import LAYOUT, problem


def test_a_map_keeps_the_distances_of_points_in_a_plane():
    import numpy as np

    points = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0], [1.0, 1.0]])
    distance = np.linalg.norm(points[:, None] - points[None], axis=-1)
    found = classical_mds(distance)
    np.testing.assert_allclose(np.linalg.norm(found[:, None] - found[None], axis=-1), distance, atol=1e-9)
    assert classical_mds(np.zeros((1, 1))).tolist() == [[0, 0]]


@pytest.mark.parametrize(("n", "share", "count"), [(1, None, 2), (3, 0.0, 4), (3, 1.0, 1)])
def test_runs_that_tell_nothing_apart_are_reported_too(n, share, count):
    sweeps = {"position": position_sweep((32,)), "neighbours": neighbour_sweep(n)}
    variants = standard_variants(first_layer=0, n_layers=LAYOUT.n_layers, examples=True, behaviour=True)
    plan = Plan(tuple(variants), sweeps, tuple(size for size in (2,) if size < n))
    measured = []
    for seed in range(count):
        group, correct = problem(seed, n=n, share=share)
        verdicts = ProblemVerdicts(str(seed), tuple(map(bool, correct)), None, ("",) * n, None, "made")
        measured.append(measure_problem(group, verdicts, plan))
    evidence = collect_evidence(measured, plan, draws=50)
    assert all(row.auroc.n == 0 for row in evidence.rows)
    # what compares selectors, or needs right and wrong candidates of one problem, is left out
    drawn = set(draw_plots(measured, evidence, plan))
    assert drawn <= {"entropy"}
    for table in (selector_table(evidence), difficulty_table(evidence), findings_table(evidence)):
        assert all(len(row) == len(table[0]) for row in table[1])


def test_titles_of_plots_beside_each_other_and_counts_of_chunks(measures, evidence, plan):
    long = [replace(m, problem=f"a benchmark with a long name/and problem {i}") for i, m in enumerate(measures)]
    figures = draw_plots(long, evidence, plan)
    for name in ("similarity", "map"):
        figure = figures[name]
        figure.canvas.draw()
        titles = [text for axes in figure.axes for text in axes.findobj(Text) if "…" in text.get_text()]
        boxes = [title.get_window_extent() for title in titles]
        assert len(boxes) >= 2
        assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i]), name
    figure = figures["entropy"]
    figure.canvas.draw()
    counts = [label.get_text() for label in figure.axes[1].get_yticklabels() if label.get_text()]
    assert counts[0] == "1"
    assert all(count.isdigit() for count in counts)
