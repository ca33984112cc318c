"""Measure what dropping candidates early costs, by replaying schedules on a recorded run; prints a Markdown table.

    python benchmarks/pruning.py RUN [--selector knn] [--chunk 32]

A run has every candidate to its end. Each schedule decides as the decoder does, on what the candidates had generated at
the end of a chunk, and its choice is compared with the choice among all whole candidates. If the run has verdicts (`nad
report` writes them), the table also shows how many of the chosen answers are right.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from nad_agents import NADConfig
from nad_agents.evaluation.verdicts import read_verdicts
from nad_agents.neurons.activated_sets import similarity_matrix
from nad_agents.neurons.comparison import ComparisonConfig
from nad_agents.pruning import pruning_policy, pruning_stages
from nad_agents.ranking import rank_rollouts
from nad_agents.rollouts import RolloutGroup
from nad_agents.runs import RecordedRun
from nad_agents.selection import make_selector


@dataclass(frozen=True)
class ReplayResult:
    """The candidate chosen for one problem, and the number of tokens generated for the choice."""

    winner: int
    tokens: int


def replay(group: RolloutGroup, config: NADConfig) -> ReplayResult:
    """Decide at the ends of chunks as the decoder does."""
    comparison = ComparisonConfig.from_config(config)

    def of_chunks(chunks: int):
        return make_selector(config, replace(comparison, compare_chunks=chunks))

    policy = pruning_policy(config, of_chunks, replace(comparison, compare_chunks=1), len(group))
    lengths = [len(rollout) for rollout in group.rollouts]
    end = max(lengths)
    dropped_at: dict[int, int] = {}
    for tokens in range(config.chunk_size, end + config.chunk_size, config.chunk_size):
        live = [i for i in range(len(group)) if i not in dropped_at and lengths[i] > tokens]
        for candidate in policy.after_chunk(live, lambda at=tokens: group.beginning(at)):
            dropped_at[candidate] = tokens
    # a dropped candidate would not have been generated further
    parts = [rollout.beginning(dropped_at.get(i, end)) for i, rollout in enumerate(group.rollouts)]
    known = RolloutGroup(parts, group.layout, group.prompt)
    ranked = rank_rollouts(known, make_selector(config, comparison), comparison, policy.decision)
    return ReplayResult(ranked.ranking[0], sum(len(part) for part in parts))


def schedules(n: int) -> Iterator[tuple[str, dict[str, object]]]:
    """Yield names and settings of the schedules for n candidates."""
    for settings in (
        {"pruning": "first_chunk"},
        {"pruning": "first_chunk", "keep": 2},
        {"pruning": "first_chunk", "keep": n // 2},
        {"pruning": "halving", "shrink": 2},
        {"pruning": "halving", "shrink": 4},
        {"pruning": "halving", "shrink": 2, "keep": 2},
    ):
        stages = pruning_stages(NADConfig(**settings), n)
        yield " -> ".join(map(str, (n, *stages))), settings


def main() -> None:
    """Replay every schedule and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--selector", default="knn")
    parser.add_argument("--chunk", type=int, default=32)
    args = parser.parse_args()
    run = RecordedRun(args.run)
    verdicts = read_verdicts(run.folder)
    n = run.manifest.sampling["n"]
    whole: list[ReplayResult] = []
    found: dict[str, list[ReplayResult]] = {}
    similarities: dict[str, list[float]] = {}
    chance = []
    common = {"selector": args.selector, "chunk_size": args.chunk}
    config = NADConfig(**common)
    for group in run.groups():
        whole.append(replay(group, config))
        matrix = similarity_matrix(group, ComparisonConfig.from_config(config))
        chance.append(float(matrix[whole[-1].winner].mean()))
        for name, settings in schedules(n):
            result = replay(group, NADConfig(**common, **settings))
            found.setdefault(name, []).append(result)
            similarities.setdefault(name, []).append(float(matrix[whole[-1].winner, result.winner]))
    problems = run.problems
    name = run.manifest.model["name"]
    print(f"{name}, {len(problems)} problems, {n} candidates, {args.selector}, chunks of {args.chunk}\n")
    print("| candidates that go on | tokens | same choice | similarity to it | right |\n|---|---|---|---|---|")

    def right(results: list[ReplayResult]) -> str:
        known = [verdicts[p].correct[o.winner] for p, o in zip(problems, results, strict=True) if p in verdicts]
        return f"{100 * np.mean(known):.1f}" if known else "-"

    total = sum(result.tokens for result in whole)
    print(f"| all, to their end | 1.00 | 1.00 | 1.00 | {right(whole)} |")
    for name, results in found.items():
        same = np.mean([a.winner == b.winner for a, b in zip(results, whole, strict=True)])
        tokens = sum(result.tokens for result in results) / total
        print(f"| {name} | {tokens:.2f} | {same:.2f} | {np.mean(similarities[name]):.2f} | {right(results)} |")
    everyone = [verdicts[p].correct for p in problems if p in verdicts]
    known = f"{100 * np.mean([np.mean(c) for c in everyone]):.1f}" if everyone else "-"
    print(f"| one at random | {1 / n:.2f} | {1 / n:.2f} | {np.mean(chance):.2f} | {known} |")


if __name__ == "__main__":
    main()
