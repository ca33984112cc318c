"""Separate the two leading behaviors: run the programs on inputs that a model proposes because the two may differ.

Where two groups of programs are close, the inputs so far may hardly tell them apart. The model sees one program of each
and proposes inputs on which they differ; all programs are run on these, and the results decide, by the vote of the
candidates or by the model's judgment of which result is right (S*, arXiv 2502.14382).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nad_agents.selectors.observations import ObservedOutcome, ProposalObserver, label_outcomes

__all__ = ["InputSeparator", "OutcomeJudge", "Separation", "leading_pair", "separate"]


class InputSeparator(Protocol):
    """Proposes inputs on which programs differ, such as ``nad_agents.input_proposals.ModelSeparator``."""

    def separate(
        self, prompt: str, first: str, second: str, parameters: Mapping[str, Mapping[str, Any]] | None
    ) -> tuple[Sequence[object], int]:
        """Return inputs for the programs of two answers, and the number of tokens generated for them."""
        ...


class OutcomeJudge(Protocol):
    """Judges results of programs, such as ``nad_agents.self_evaluation.ModelJudge``."""

    def prefer(self, task: str, cases: Sequence[tuple[str, str, str]]) -> Sequence[float]:
        """Return, for each input with two results, the probability that the first result is the right one."""
        ...


@dataclass(frozen=True)
class Separation:
    """The observations on the inputs that separate two programs.

    Attributes:
        inputs: Readable descriptions of the inputs on which the two differ.
        outcomes: For each program the outcome on each of these inputs.
        labels: Int64 [programs, inputs]; see `label_outcomes`.
        preferred: Place of the program that the judge prefers; None if the vote decides.
        details: JSON-serializable evidence with the cost.
    """

    inputs: tuple[str, ...]
    outcomes: tuple[tuple[ObservedOutcome, ...], ...]
    labels: NDArray[np.int64]
    preferred: int | None = None
    details: dict[str, Any] = field(default_factory=dict)


def leading_pair(
    ranking: Sequence[int], labels: NDArray[np.int64], values: NDArray[np.float64], close: float
) -> tuple[int, int] | None:
    """Return the best programs of the two leading groups; None if one leads clearly, or fewer than two groups work.

    Args:
        ranking: Places of the programs, best first.
        labels: Int64 [programs, inputs]; see `label_outcomes`.
        values: Float64 [programs], the scores.
        close: Greatest difference between the scores of the two.
    """
    working = [place for place in ranking if labels[place].max(initial=-1) >= 0]
    if not working:
        return None
    first = working[0]
    second = next((place for place in working if (labels[place] != labels[first]).any()), None)
    return None if second is None or values[first] - values[second] > close else (first, second)


def separate(
    answers: Sequence[str],
    prompt: str,
    pair: tuple[int, int],
    *,
    runner: ProposalObserver,
    separator: InputSeparator,
    judge: OutcomeJudge | None = None,
) -> Separation:
    """Run all programs on the inputs that are proposed for two of them, and keep the inputs on which the two differ.

    Args:
        answers: The candidates' texts.
        prompt: The prompt that the candidates answer.
        pair: Places of the two programs.
        runner: Runs the programs.
        separator: Proposes the inputs.
        judge: Decides which of the two is right; without a judge the vote decides.

    Raises:
        Exception: Anything that the runner, the separator or the judge raises.
    """
    started = time.perf_counter()
    first, second = pair
    tokens = 0

    def propose(task: str, parameters: Mapping[str, Mapping[str, Any]] | None) -> Iterable[object]:
        nonlocal tokens
        proposed, tokens = separator.separate(task, answers[first], answers[second], parameters)
        return proposed

    seen = runner.observe(answers, prompt=prompt, propose=propose)
    labels = label_outcomes(seen.outcomes)
    kept = [int(i) for i in np.flatnonzero(labels[first] != labels[second])] if seen.inputs else []
    inputs = tuple(seen.inputs[i] for i in kept)
    outcomes = tuple(tuple(row[i] for i in kept) for row in seen.outcomes)
    preferred, questions = None, 0
    if judge is not None and kept:
        cases = [(given, outcomes[first][i].text, outcomes[second][i].text) for i, given in enumerate(inputs)]
        chance, questions = float(np.mean(judge.prefer(prompt, cases))), 2 * len(cases)
        preferred = first if chance >= 0.5 else second
    details = {
        "proposed": len(seen.inputs),
        "inputs": list(inputs),
        "outcomes": [[outcomes[place][i].text for i in range(len(kept))] for place in pair],
        "decided_by": None if not kept else "vote" if judge is None else "judge",
        "generated_tokens": tokens,
        "questions": questions,
        "seconds": round(time.perf_counter() - started, 3),
    }
    return Separation(inputs, outcomes, labels[:, kept], preferred, details)
