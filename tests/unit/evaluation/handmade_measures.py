"""Measures of problems written down by hand."""

import numpy as np

from nad_agents.evaluation.measures import ProblemMeasures
from nad_agents.evaluation.plan import Plan
from nad_agents.evaluation.variants import SWEPT, Variant, position_sweep

PLAN = Plan(tuple(Variant(name, name) for name in SWEPT))
SWEEPING = Plan(PLAN.standard, {"position": position_sweep((32,))}, (2,))


def measured(name, correct, rankings, *, tokens=None, examples=None, sweeps=None, subsets=None, scores=None):
    """A problem with given outcomes and rankings; where no scores are given, they follow the rankings."""
    n = len(correct)
    rankings = np.array(rankings, dtype=np.int64)
    given = -np.argsort(rankings, axis=1).astype(float) if scores is None else np.array(scores, dtype=float)
    tokens = np.arange(10, 10 * n + 1, 10) if tokens is None else np.array(tokens)
    return ProblemMeasures(
        problem=name,
        correct=np.array(correct, dtype=bool),
        examples=None if examples is None else np.array(examples, dtype=bool),
        tokens=tokens,
        shared=5,
        cut=np.zeros(n, dtype=bool),
        seconds=2.0,
        counts=10 * tokens,
        entropies=np.linspace(0.1, 0.5, n),
        similarity=np.eye(n),
        scores=given,
        rankings=rankings,
        milliseconds=np.ones(len(rankings)),
        sweeps=sweeps or {},
        subsets=subsets or {},
        chunk_points=np.zeros((0, 2)),
        growth=tuple(np.zeros(0, dtype=np.int64) for _ in range(n)),
    )


def same_everywhere(name, correct, ranking, **more):
    """A problem that all variants of `PLAN` rank alike."""
    return measured(name, correct, [ranking] * len(PLAN.standard), **more)


def swept(name, correct, early, late):
    """A problem on which every selector picks `early` after 32 tokens and `late` in the end."""
    rankings = [early, *(i for i in range(4) if i != early)]
    whole = [late, *(i for i in range(4) if i != late)]
    variants = len(SWEPT)
    # one more in the sweep: knn without the shared start
    sweeps = {"position": {32: np.array([rankings] * (variants + 1)), -1: np.array([whole] * (variants + 1))}}
    subsets = {2: np.full(variants, 0.5)}
    tokens = [40, 50, 60, 70]
    return measured(name, correct, [whole] * variants, tokens=tokens, sweeps=sweeps, subsets=subsets)
