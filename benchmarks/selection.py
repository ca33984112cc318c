"""Compare selectors by number of candidates, and sampling that stops early, on recorded runs; prints Markdown tables.

    python benchmarks/selection.py RUN [RUN ...] [--draws 12] [--workers 2] [--picture cost.png]

`nad bench` records a run and `nad report` scores it. The first table has the accuracy of each selector for 2, 4, 8, ...
candidates. The second chooses a selector on one half of the problems and reports its gain on the other, for selectors
without and with execution. The third replays `until="passed"` and `until="decided"`: the accuracy, the share of the
tokens of all candidates, and the programs that were run, beside fixed numbers of candidates. The picture shows the
accuracy of the first run against both costs. Intervals are 95% bootstrap intervals over problems.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nad_agents.evaluation.evidence import collect_evidence
from nad_agents.evaluation.measures import RecordedBehaviour, measure_run
from nad_agents.evaluation.plan import Plan
from nad_agents.evaluation.plots.style import matplotlib_style
from nad_agents.evaluation.statistics import Resampling
from nad_agents.evaluation.tables import held_out_table, percent, sweep_table, to_markdown
from nad_agents.evaluation.variants import FOLLOWED
from nad_agents.evaluation.verdicts import ProblemVerdicts, read_verdicts
from nad_agents.neurons.activated_sets import ComparisonConfig, subgroup
from nad_agents.rollouts import RolloutGroup
from nad_agents.runs import RecordedRun
from nad_agents.selectors import KNN, Behaviour, Majority, NADFusion, Selector, rank
from nad_agents.stopping import UntilDecided

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


class Problem:
    """A scored problem.

    Args:
        group: The candidates.
        verdicts: Their verdicts.
        selector: The selector that `auto` would choose.
    """

    def __init__(self, group: RolloutGroup, verdicts: ProblemVerdicts, selector: Selector) -> None:
        self.group, self.verdicts, self.selector = group, verdicts, selector
        self.correct = np.array(verdicts.correct, dtype=bool)
        self.tokens = np.array([len(rollout) for rollout in group.rollouts])
        self.examples = None if verdicts.examples is None else np.array(verdicts.examples, dtype=bool)
        self.programs = np.unique([rollout.text for rollout in group.rollouts], return_inverse=True)[1]
        outcomes = verdicts.outcomes if verdicts.outcomes is not None else self.programs[:, None].tolist()
        self.behaviours = np.unique(outcomes, axis=0, return_inverse=True)[1].ravel()
        self.runs_programs = isinstance(selector, Behaviour)

    def part(self, members: Sequence[int]) -> RolloutGroup:
        return subgroup(self.group, members, ComparisonConfig())

    def ranking(self, members: Sequence[int], ranks: Ranks) -> list[int]:
        """Return the members, best first."""
        if len(members) == 1:
            return list(members)
        part = self.part(members)
        chosen: Selector = {"knn": KNN(), "nad_fusion": NADFusion()}.get(ranks, self.selector)
        return [members[place] for place in rank(chosen.score(part), part)]

    def decided(self, members: Sequence[int], threshold: float) -> bool:
        return UntilDecided(self.selector, threshold).enough(self.part(members))


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
        """Return what the policy gives if the candidates come in an order."""
        members = list(self.sampled(problem, order))
        tokens = int(problem.tokens[members].sum())
        if self.ranks == "random":
            return Pick(float(problem.correct[members].mean()), tokens, 0)
        ranking = problem.ranking(members, self.ranks)
        programs = set(problem.programs[members]) if self.ranks == "auto" and problem.runs_programs else set()
        compared = len(programs) if len(members) > 1 else 0
        if not self.checked or problem.examples is None:
            return Pick(float(problem.correct[ranking[0]]), tokens, compared)
        if self.check_all:
            passes = [i for i in ranking if problem.examples[i]]
            pick = problem.ranking(passes, self.ranks)[0] if passes else ranking[0]
            return Pick(float(problem.correct[pick]), tokens, compared + len(set(problem.programs[members])))
        passing = next((place for place, i in enumerate(ranking) if problem.examples[i]), None)
        checked = set(problem.programs[ranking[: len(ranking) if passing is None else passing + 1]])
        if self.series == UNTIL_PASSED:  # the checks came between the waves, of every program
            checked = set(problem.programs[members])
        return Pick(float(problem.correct[ranking[passing or 0]]), tokens, compared + len(checked))


UNTIL_PASSED = 'until="passed"'


def until_passed(wave: int, passes: int) -> Callable[[Problem, Sequence[int]], Sequence[int]]:
    def sampled(problem: Problem, order: Sequence[int]) -> Sequence[int]:
        examples = problem.examples
        if examples is None:
            return order

        def enough(end: int) -> bool:
            passing = [i for i in order[:end] if examples[i]]
            most = max(Counter(problem.behaviours[passing].tolist()).values(), default=0)
            return most >= passes or bool(passing and 2 * end >= len(order))

        return order[: next(filter(enough, range(wave, len(order), wave)), len(order))]

    return sampled


def until_decided(wave: int, threshold: float) -> Callable[[Problem, Sequence[int]], Sequence[int]]:
    def sampled(problem: Problem, order: Sequence[int]) -> Sequence[int]:
        ends = range(wave, len(order), wave)
        return order[: next((end for end in ends if problem.decided(order[:end], threshold)), len(order))]

    return sampled


def policies(n: int) -> list[Policy]:
    """Return the policies for n candidates; the ones that sample all of them come first."""
    made = []
    for size in (n, *(size for size in (1, 2, 4, 6, 8, 12) if size < n)):
        label = f"n = {size}"

        def fixed(_: Problem, order: Sequence[int], size: int = size) -> Sequence[int]:
            return order[:size]

        made += [
            Policy(label, "by what programs do", fixed),
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
    return made


def problems_of(run: RecordedRun) -> Iterator[Problem]:
    """Yield the scored problems, each with the selector that `auto` would choose."""
    verdicts = read_verdicts(run.folder)
    for name in run.problems:
        if name not in verdicts:
            continue
        group, judged = run.group(name), verdicts[name]
        selector: Selector = NADFusion()
        if judged.outcomes is not None:
            selector = Behaviour(runner=RecordedBehaviour(group, judged))
        elif judged.answers is not None:
            known = dict(zip([r.text for r in group.rollouts], judged.answers, strict=True))
            selector = Majority(known.get, weighted=True)
        yield Problem(group, judged, selector)


@dataclass(frozen=True)
class Replayed:
    """A policy's replays: per problem, means over random orders, float64 [problems] each."""

    policy: Policy
    correct: NDArray[np.float64]
    tokens: NDArray[np.float64]
    programs: NDArray[np.float64]


def replay(problems: Sequence[Problem], draws: int, n: int) -> list[Replayed]:
    """Replay every policy on random orders of n of the candidates."""
    found = []
    for policy in policies(n):
        picks = [
            [
                policy.replay(
                    problem, np.random.default_rng([draw, place]).permutation(len(problem.correct))[:n].tolist()
                )
                for draw in range(draws)
            ]
            for place, problem in enumerate(problems)
        ]
        columns = (
            [[getattr(pick, name) for pick in row] for row in picks] for name in ("correct", "tokens", "programs")
        )
        found.append(Replayed(policy, *(np.mean(column, axis=1) for column in columns)))
    return found


def replay_table(replayed: Sequence[Replayed]) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
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


COLORS = {
    "at random": ("#777777", "v"),
    "agreement (knn)": ("#0072B2", "o"),
    "agreement, log-probability": ("#CC79A7", "P"),
    "by what programs do": ("#000000", "s"),
    'until="decided"': ("#E69F00", "D"),
    "the same, examples checked": ("#009E73", "^"),
    UNTIL_PASSED: ("#D55E00", "X"),
}


def draw(replayed: Sequence[Replayed], title: str, path: Path) -> None:
    """Draw accuracy against tokens, and against programs run, with a line for each way to choose."""
    with matplotlib_style() as new_figure:
        figure = new_figure(figsize=(10, 4.6))
        left, right = figure.subplots(1, 2, sharey=True)
        for series, (color, marker) in COLORS.items():
            mine = [one for one in replayed if one.policy.series == series and shown(one.policy)]
            for axes, cost in ((left, "tokens"), (right, "programs")):
                points = sorted((float(getattr(one, cost).mean()), 100 * float(one.correct.mean())) for one in mine)
                if cost == "programs":
                    points = [point for point in points if point[0] > 0]
                if points:
                    axes.plot(*zip(*points, strict=True), marker=marker, ms=5, lw=1.3, color=color, label=series)
        left.set(xlabel="tokens generated per problem", ylabel="problems solved, %", xscale="log")
        right.set(xlabel="programs run in the sandbox per problem", xscale="log")
        for axes, ticks in ((left, (100, 200, 400, 800, 1600, 3200)), (right, (1, 2, 4, 8, 16, 32))):
            low, high = axes.get_xlim()
            axes.set_xticks([tick for tick in ticks if low <= tick <= high], minor=False)
            axes.set_xticklabels([f"{tick:,}" for tick in ticks if low <= tick <= high])
            axes.minorticks_off()
            axes.grid(alpha=0.25)
        figure.suptitle(title, fontsize=11)
        handles, labels = left.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=9)
        figure.savefig(path, dpi=110)


def shown(policy: Policy) -> bool:
    """Return whether a policy has a point in the picture: of the sizes of waves, only the default."""
    wave = {UNTIL_PASSED: "wave 2", 'until="decided"': "wave 4"}.get(policy.series)
    return wave is None or policy.label.endswith(wave)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--draws", type=int, default=12)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    for folder in options.runs:
        run = RecordedRun(folder)
        plan = Plan.for_run(run)
        plan = replace(plan, standard=tuple(v for v in plan.standard if v.label in FOLLOWED), sweeps={})
        measures = measure_run(run, plan, workers=options.workers)
        evidence = collect_evidence(measures, plan)
        print(f"## {run.manifest.model.get('name')}, {run.manifest.task.get('file')}: {len(measures)} problems\n")
        print(to_markdown(sweep_table(evidence, "candidates")), end="\n\n")
        if evidence.held_out:
            print(to_markdown(held_out_table(evidence)), end="\n\n")
        problems = list(problems_of(run))
        n = len(problems[0].correct)
        replayed = replay(problems, options.draws, n)
        print(to_markdown(replay_table(replayed)), end="\n\n")
        if options.picture and folder == options.runs[0]:
            title = f"{run.manifest.model.get('name')}, up to {n} candidates, {len(problems)} problems"
            draw(replayed, title, options.picture)


if __name__ == "__main__":
    main()
