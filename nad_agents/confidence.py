"""Estimate the probability that a chosen answer is right from how many candidates give the same answer.

The estimate is a logistic curve over the share of the other candidates that give the winner's answer. The curves were
fitted on 64 candidates each of HumanEval (76 problems) and GSM8K (60 problems) of a model with half a billion
parameters. Fitted on one half of the problems, they were off by 6 to 14 points on average on the other half, most of
all for unchecked programs. Other models and tasks may differ: `nad report` shows the curve of a run.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["agreeing_share", "estimate_confidence"]

_CURVES = {"programs": (-0.51, 2.37), "checked": (0.97, 1.78), "answers": (-3.27, 7.96)}
"""Intercept and slope by the kind of agreement."""

_KINDS = {"behaviour": "programs", "behaviour_groups": "programs", "majority": "answers"}
"""Kind of agreement that each selector measures."""

_FAILED = 0.05
"""Probability that the answer is right if no candidate passed the checks."""


def agreeing_share(votes: NDArray[np.int64], winner: int) -> float:
    """Return the smoothed share of candidates that give the winner's answer, averaged over the questions.

    Args:
        votes: Int64 [N, questions]; see `Scores.votes`.
        winner: The chosen candidate.
    """
    own = votes[winner]
    agreeing = ((votes == own) & (own >= 0)).sum(axis=0) - (own >= 0)
    return float(np.mean((agreeing + 0.5) / len(votes)))


def estimate_confidence(
    selector: str, votes: NDArray[np.int64] | None, winner: int, *, passed: bool | None = None
) -> float | None:
    """Estimate the probability that the chosen answer is right.

    Args:
        selector: Name of the selector that decided.
        votes: Each candidate's answers (see `Scores.votes`); None if the selector compares no answers.
        winner: The chosen candidate.
        passed: Whether the winner passed the verifier; None without one, and if it passed without any test.

    Returns:
        The probability; None if no calibrated evidence exists, for example if only neurons and log-probabilities were
        compared.
    """
    if passed is False:
        return _FAILED
    known = votes is not None and votes.size > 0 and selector in _KINDS
    share = agreeing_share(votes, winner) if votes is not None and known else 0.5
    if passed:
        kind = "checked"
    elif known:
        kind = _KINDS[selector]
    else:
        return None
    intercept, slope = _CURVES[kind]
    return 1 / (1 + math.exp(-(intercept + slope * share)))
