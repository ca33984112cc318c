"""Selectors by self-evaluation: the model that wrote the answers judges them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from nad_agents.exceptions import ConfigurationError
from nad_agents.rollouts import RolloutGroup
from nad_agents.selectors.base import Scores, SelectorBase, check_count, content_order
from nad_agents.selectors.fusion import NADFusion

__all__ = ["AnswerJudge", "PTrue", "SelfVerify"]


class AnswerJudge(Protocol):
    """An object that judges answers, such as ``nad_agents.self_evaluation.ModelJudge(decoder)``."""

    def compare(self, task: str, pairs: Sequence[tuple[str, str]]) -> Sequence[float]:
        """Return, for each pair, how much better the first answer is than the second, in [-1, 1]."""
        ...

    def p_true(self, task: str, answers: Sequence[str]) -> Sequence[float]:
        """Return, for each answer, the probability that it is right."""
        ...


@dataclass(frozen=True)
class SelfVerify(SelectorBase):
    """Lets the model compare its answers in pairs, in a tournament (arXiv 2607.05391).

    Each distinct answer is compared with the next one on a ring. The ones with the best mean win become pivots, with
    which all others are compared: N + pivots * (N - pivots) + pivots * (pivots - 1) / 2 comparisons at most. The score
    is the mean win, in [0, 1], where the win over another answer is the logistic function of the difference of grades.
    Copies of an answer share its score. A candidate without tokens gets NaN; ties are broken by agreement and
    log-probability. ``details["comparisons"]`` is the number of comparisons.

    Attributes:
        judge: Compares the answers.
        pivots: Number of pivots.
    """

    name: ClassVar[str] = "self_verify"
    needs_whole_answers: ClassVar[bool] = True

    judge: AnswerJudge | None = None
    pivots: int = 2

    def __post_init__(self) -> None:
        """Check the options."""
        _check_judge(self.name, self.judge, "compare")
        check_count(self.name, "pivots", self.pivots, 1)

    def score(self, group: RolloutGroup) -> Scores:
        """Score every candidate, in index order.

        Raises:
            NADError: The model could not judge.
        """
        assert self.judge is not None
        texts = _distinct(group)
        n = len(texts)
        wins: list[list[float]] = [[] for _ in texts]
        done: set[frozenset[int]] = set()

        def play(pairs: list[tuple[int, int]]) -> None:
            fresh = [pair for pair in pairs if pair[0] != pair[1] and frozenset(pair) not in done]
            fresh = list({frozenset(pair): pair for pair in fresh}.values())
            done.update(map(frozenset, fresh))
            assert self.judge is not None
            found = self.judge.compare(group.prompt, [(texts[a], texts[b]) for a, b in fresh])
            for (a, b), difference in zip(fresh, found, strict=True):
                win = 1 / (1 + math.exp(-difference))
                wins[a].append(win)
                wins[b].append(1 - win)

        if n > 1:
            # content order is random enough for a ring, and does not depend on the candidates' order
            play([(i, (i + 1) % n) for i in range(n)])
            means = [float(np.mean(won)) for won in wins]
            pivots = sorted(range(n), key=lambda i: (-means[i], i))[: self.pivots]
            play([(i, pivot) for i in range(n) for pivot in pivots])
        by_text = {text: float(np.mean(won)) if won else 0.5 for text, won in zip(texts, wins, strict=True)}
        return _scored(group, by_text, self, {"comparisons": len(done)})


@dataclass(frozen=True)
class PTrue(SelectorBase):
    """Scores a candidate by the probability that the model gives to its being right, asked about it alone.

    A candidate without tokens gets NaN; ties are broken by agreement and log-probability (arXiv 2207.05221).

    Attributes:
        judge: Estimates the probability that an answer is right.
    """

    name: ClassVar[str] = "p_true"
    needs_whole_answers: ClassVar[bool] = True

    judge: AnswerJudge | None = None

    def __post_init__(self) -> None:
        """Check the option."""
        _check_judge(self.name, self.judge, "p_true")

    def score(self, group: RolloutGroup) -> Scores:
        """Score every candidate, in index order.

        Raises:
            NADError: The model could not judge.
        """
        assert self.judge is not None
        texts = _distinct(group)
        found = self.judge.p_true(group.prompt, texts) if texts else []
        return _scored(group, dict(zip(texts, found, strict=True)), self, {"questions": len(texts)})


def _check_judge(selector: str, judge: object, method: str) -> None:
    if not hasattr(judge, method):
        msg = (
            f"{selector} asks a model about its answers and needs to be told which: "
            "give selector_options={'judge': nad_agents.self_evaluation.ModelJudge(decoder)}"
        )
        raise ConfigurationError(msg)


def _distinct(group: RolloutGroup) -> list[str]:
    """Return the distinct texts of candidates that have tokens, in content order."""
    ordered = [i for i in content_order(group) if len(group.rollouts[i])]
    return list(dict.fromkeys(group.rollouts[i].text for i in ordered))


def _scored(group: RolloutGroup, by_text: dict[str, float], selector: SelectorBase, details: dict[str, int]) -> Scores:
    values: NDArray[np.float64] = np.array(
        [by_text[rollout.text] if len(rollout) else np.nan for rollout in group.rollouts], dtype=np.float64
    )
    evidence = NADFusion(comparison=selector.comparison).score(group)
    return Scores(values, (evidence.values, *evidence.tie_breaks), dict(details))
