"""Ways to sample and to choose, replayed on recorded candidates: accuracy against tokens and programs run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from problems import Problem

from nad_agents.evaluation.statistics import Resampling
from nad_agents.evaluation.tables import Table, percent
from nad_agents.selectors import KNN, NADFusion, Selector
from nad_agents.stopping import UntilDecided
from nad_agents.types import NADConfig

Ranks = Literal["random", "knn", "nad_fusion", "auto"]


@dataclass(frozen=True)
class Pick:
    """What a policy gives for one problem.

    Attributes:
        correct: Share of correct picks: 0 or 1, or between them if the pick is random.
        tokens: Tokens that were generated.
        programs: Programs that were run, for comparing or checking them.
    """

    correct: float
    tokens: int
    programs: int


@dataclass(frozen=True)
class Policy:
    """A way to sample and choose.

    Attributes:
        label: Name of the setting.
        series: Name of the line in the picture.
        sampled: Maps a problem and the order of sampling to the candidates that are generated.
        ranks: What ranks the candidates.
        checked: Whether they are checked in rank order with the prompt's examples, until one passes.
        check_all: Whether all are checked, and only those that pass are compared.
    """

    label: str
    series: str
    sampled: Callable[[Problem, Sequence[int]], Sequence[int]]
    ranks: Ranks = "auto"
    checked: bool = False
    check_all: bool = False

    def replay(self, problem: Problem, order: Sequence[int]) -> Pick:
        """Sample a problem's candidates in an order until the policy stops; return its pick and what that cost."""
        members = list(self.sampled(problem, order))
        tokens = int(problem.tokens[members].sum())
        if self.ranks == "random":
            return Pick(float(problem.correct[members].mean()), tokens, 0)
        selector: Selector = {"knn": KNN(), "nad_fusion": NADFusion()}.get(self.ranks, problem.auto)
        ranking = problem.ranking(members, selector)
        programs = set(problem.programs[members]) if self.ranks == "auto" and problem.runs_programs else set()
        compared = len(programs) if len(members) > 1 else 0
        if not self.checked or problem.examples is None:
            return Pick(float(problem.correct[ranking[0]]), tokens, compared)
        if self.check_all:
            passes = [i for i in ranking if problem.examples[i]]
            pick = problem.ranking(passes, selector)[0] if passes else ranking[0]
            return Pick(float(problem.correct[pick]), tokens, compared + len(set(problem.programs[members])))
        passing = next((place for place, i in enumerate(ranking) if problem.examples[i]), None)
        checked = set(problem.programs[ranking[: len(ranking) if passing is None else passing + 1]])
        if self.series == UNTIL_PASSED:  # the checks came between the waves, of every program
            checked = set(problem.programs[members])
        return Pick(float(problem.correct[ranking[passing or 0]]), tokens, compared + len(checked))


UNTIL_PASSED = 'until="passed"'
BY_PROGRAMS, BY_ANSWERS = "by what programs do", "by answers (majority, weighted)"


def until_passed(wave: int, passes: int) -> Callable[[Problem, Sequence[int]], Sequence[int]]:
    without_examples = until_decided(wave, NADConfig().decided_at)

    def sampled(problem: Problem, order: Sequence[int]) -> Sequence[int]:
        examples = problem.examples
        if examples is None:
            return without_examples(problem, order)

        def enough(end: int) -> bool:
            passing = [i for i in order[:end] if examples[i]]
            return max(Counter(problem.behaviours[passing].tolist()).values(), default=0) >= passes

        return order[: next(filter(enough, range(wave, len(order), wave)), len(order))]

    return sampled


def decided(problem: Problem, members: Sequence[int], threshold: float) -> bool:
    return UntilDecided(problem.auto, threshold).enough(problem.part(members))


def until_decided(wave: int, threshold: float) -> Callable[[Problem, Sequence[int]], Sequence[int]]:
    def sampled(problem: Problem, order: Sequence[int]) -> Sequence[int]:
        ends = range(wave, len(order), wave)
        return order[: next((end for end in ends if decided(problem, order[:end], threshold)), len(order))]

    return sampled


def policies(problems: Sequence[Problem], n: int) -> list[Policy]:
    """Return the policies for n candidates; the ones that sample all of them come first.

    Policies that check examples are left out where no prompt has any.
    """
    by_auto = BY_PROGRAMS if any(problem.runs_programs for problem in problems) else BY_ANSWERS
    made = []
    for size in (n, *(size for size in (1, 2, 4, 6, 8, 12) if size < n)):
        label = f"n = {size}"

        def fixed(_: Problem, order: Sequence[int], size: int = size) -> Sequence[int]:
            return order[:size]

        made += [
            Policy(label, by_auto, fixed),
            Policy(f"{label}, examples", "the same, examples checked", fixed, checked=True),
            Policy(f"{label}, examples, all checked", "all checked", fixed, checked=True, check_all=True),
            Policy(f"{label}, agreement and log-probability", "agreement, log-probability", fixed, "nad_fusion"),
            Policy(f"{label}, knn", "agreement (knn)", fixed, "knn"),
            Policy(f"{label}, random", "at random", fixed, "random"),
        ]
    for passes in (1, 2, 3):
        for wave in (1, 2, 4):
            label = f"until passed, passes {passes}, wave {wave}"
            made.append(Policy(label, UNTIL_PASSED, until_passed(wave, passes), checked=True))
    for wave in (2, 4):
        for threshold in (0.7, 0.8, 0.9, 0.95):
            label = f"until decided at {threshold}, wave {wave}"
            made.append(Policy(label, 'until="decided"', until_decided(wave, threshold)))
    if all(problem.examples is None for problem in problems):
        return [policy for policy in made if not policy.checked]
    return made


@dataclass(frozen=True)
class Replayed:
    """A policy's replays: per problem, means over random orders, float64 [problems] each."""

    policy: Policy
    correct: NDArray[np.float64]
    tokens: NDArray[np.float64]
    programs: NDArray[np.float64]


def replay(problems: Sequence[Problem], draws: int, n: int) -> list[Replayed]:
    """Replay every policy on random orders of n of the candidates."""
    compared = policies(problems, n)
    columns = np.zeros((3, len(compared), len(problems)))
    for place, problem in enumerate(problems):
        orders = [np.random.default_rng([draw, place]).permutation(len(problem))[:n].tolist() for draw in range(draws)]
        for number, policy in enumerate(compared):
            picks = [policy.replay(problem, order) for order in orders]
            columns[:, number, place] = np.mean([(pick.correct, pick.tokens, pick.programs) for pick in picks], axis=0)
        problem.forget()
    return [Replayed(policy, *columns[:, number]) for number, policy in enumerate(compared)]


def replay_table(replayed: Sequence[Replayed]) -> Table:
    """Return the accuracy and the costs of every policy, against the same choice from all candidates."""
    sample = Resampling(len(replayed[0].correct))
    full: dict[tuple[Ranks, bool, bool], Replayed] = {}  # the first of each kind samples all candidates
    rows = []
    for one in replayed:
        whole = full.setdefault((one.policy.ranks, one.policy.checked, one.policy.check_all), one)
        difference = percent(sample.mean(one.correct - whole.correct), signed=True)
        tokens = f"{100 * one.tokens.sum() / whole.tokens.sum():.0f}"
        rows.append(
            (one.policy.label, percent(sample.mean(one.correct)), difference, tokens, f"{one.programs.mean():.1f}")
        )
    return ("sampling", "accuracy, %", "against all", "tokens, % of all", "programs run"), rows
