"""Compare selectors by number of candidates, and sampling that stops early, on recorded runs; prints Markdown tables.

    python benchmarks/selection.py RUN [RUN ...] [--draws 12] [--workers 2]

`nad bench` records a run and `nad report` scores it. The first table has the accuracy of each selector for 2, 4, 8, ...
candidates. The second chooses a selector on one half of the problems and reports its gain on the other, for selectors
without and with execution. The third replays `until="passed"` and `until="decided"`: the accuracy and the share of the
tokens of all candidates, beside fixed numbers of candidates. Intervals are 95% bootstrap intervals over problems.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nad_agents.evaluation.evidence import collect_evidence
from nad_agents.evaluation.measures import RecordedBehaviour, measure_run
from nad_agents.evaluation.plan import Plan
from nad_agents.evaluation.statistics import Resampling
from nad_agents.evaluation.tables import held_out_table, percent, sweep_table, to_markdown
from nad_agents.evaluation.variants import FOLLOWED
from nad_agents.evaluation.verdicts import ProblemVerdicts, read_verdicts
from nad_agents.neurons.activated_sets import ComparisonConfig, subgroup
from nad_agents.rollouts import RolloutGroup
from nad_agents.runs import RecordedRun
from nad_agents.selectors import Behaviour, Majority, NADFusion, Selector, rank
from nad_agents.stopping import UntilDecided


@dataclass(frozen=True)
class Problem:
    """A scored problem with its selector."""

    group: RolloutGroup
    verdicts: ProblemVerdicts
    selector: Selector

    @property
    def correct(self) -> NDArray[np.bool_]:
        return np.array(self.verdicts.correct, dtype=bool)

    @property
    def tokens(self) -> NDArray[np.int64]:
        return np.array([len(rollout) for rollout in self.group.rollouts])

    def part(self, members: Sequence[int]) -> RolloutGroup:
        return subgroup(self.group, members, ComparisonConfig())

    def pick(self, members: Sequence[int], *, checked: bool) -> int:
        """Return the chosen candidate; if it is checked, the first in rank that satisfies the prompt's examples."""
        part = self.part(members)
        ranking = [members[place] for place in rank(self.selector.score(part), part)]
        if checked and self.verdicts.examples is not None:
            return next((i for i in ranking if self.verdicts.examples[i]), ranking[0])
        return ranking[0]


Policy = Callable[[Problem, Sequence[int]], Sequence[int]]
"""Maps a problem and the order of sampling to the candidates that are generated."""


def fixed(n: int) -> Policy:
    return lambda _, order: order[:n]


def until_passed(wave: int) -> Policy:
    def generated(problem: Problem, order: Sequence[int]) -> Sequence[int]:
        examples = problem.verdicts.examples
        if examples is None:
            return order
        ends = range(wave, len(order), wave)
        end = next((end for end in ends if any(examples[i] for i in order[:end])), len(order))
        return order[:end]

    return generated


def until_decided(wave: int, threshold: float) -> Policy:
    def generated(problem: Problem, order: Sequence[int]) -> Sequence[int]:
        rule = UntilDecided(problem.selector, threshold)
        ends = range(wave, len(order), wave)
        return order[: next((end for end in ends if rule.enough(problem.part(order[:end]))), len(order))]

    return generated


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


def replay_table(problems: Sequence[Problem], draws: int) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """Replay every policy on random orders of the candidates."""
    n = len(problems[0].group)
    everything = np.array([problem.tokens.sum() for problem in problems], dtype=np.float64)
    policies: list[tuple[str, Policy, bool]] = [(f"n = {n}", fixed(n), False), (f"n = {n}, examples", fixed(n), True)]
    for size in (2, 4, 6, 8, 12):
        policies += [(f"n = {size}", fixed(size), False), (f"n = {size}, examples", fixed(size), True)]
    policies += [(f"until passed, wave {wave}", until_passed(wave), True) for wave in (1, 2, 4)]
    for wave in (2, 4):
        for threshold in (0.7, 0.8, 0.9, 0.95):
            policies.append((f"until decided at {threshold}, wave {wave}", until_decided(wave, threshold), False))
    sample = Resampling(len(problems))
    full: dict[bool, NDArray[np.float64]] = {}
    rows = []
    for name, policy, checked in policies:
        right, tokens = np.zeros(len(problems)), np.zeros(len(problems))
        for place, problem in enumerate(problems):
            for draw in range(draws):
                order = np.random.default_rng([draw, place]).permutation(n).tolist()
                members = policy(problem, order)
                right[place] += problem.correct[problem.pick(members, checked=checked)] / draws
                tokens[place] += problem.tokens[list(members)].sum() / draws
        full.setdefault(checked, right)
        share = tokens.sum() / everything.sum()
        difference = percent(sample.mean(right - full[checked]), signed=True)
        rows.append((name, percent(sample.mean(right)), difference, f"{100 * share:.0f}"))
    return ("sampling", "accuracy, %", f"against n = {n}", "tokens, % of all"), rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--draws", type=int, default=12)
    parser.add_argument("--workers", type=int, default=1)
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
        print(to_markdown(replay_table(list(problems_of(run)), options.draws)), end="\n\n")


if __name__ == "__main__":
    main()
