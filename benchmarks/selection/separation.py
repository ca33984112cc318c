"""Measure what inputs gain that a model proposes to separate the two leading groups of programs; prints a table.

    python benchmarks/selection/separation.py RUN ANSWERS.jsonl --model MODEL [--dtype int8] [--mixed] [--n 16]
    python benchmarks/selection/separation.py RUN ANSWERS.jsonl

RUN is the folder of a scored run of code. The model is asked for every problem on whose inputs two groups of working
programs differ, with --mixed only where one of the two leading programs is right, since nothing is to be gained
elsewhere; a sandbox runs the programs on the proposed inputs. The first row counts the problems at which `behaviour`
would ask by itself (`close`). An interrupted measurement goes on where it was. Without a model, the answers that are
there are counted, and without these the problems that could be decided. Intervals are 95% bootstrap intervals over
problems.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from nad_sandbox import BehaviourRunner, auto_sandbox
from problems import Problem, read_source
from resumable import measure_missing, measured

from nad_agents.decoder import NeuronAgreementDecoder
from nad_agents.evaluation.measures import RecordedBehaviour
from nad_agents.evaluation.statistics import Resampling
from nad_agents.evaluation.tables import Table, percent, to_markdown
from nad_agents.input_proposals import ModelSeparator
from nad_agents.selectors import Behaviour, rank
from nad_agents.selectors.observations import InputProposer, ProgramObservations
from nad_agents.selectors.separation import leading_pair
from nad_agents.self_evaluation import ModelJudge

CLOSE = Behaviour.__dataclass_fields__["close"].default
ANY = 1.0


class Observer:
    """Returns recorded outcomes, and runs the programs on proposed inputs only."""

    def __init__(self, recorded: RecordedBehaviour, live: BehaviourRunner) -> None:
        self._recorded, self._live = recorded, live

    def observe(
        self, answers: Sequence[str], *, prompt: str = "", propose: InputProposer | None = None
    ) -> ProgramObservations:
        """Return what the programs do."""
        if propose is None:
            return self._recorded.observe(answers, prompt=prompt)
        return self._live.observe(answers, prompt=prompt, propose=propose)


def measure(
    problem: Problem, n: int, live: BehaviourRunner | None, decoder: NeuronAgreementDecoder | None, *, mixed: bool
) -> dict[str, Any]:
    """Choose by the recorded inputs, by the vote on separating inputs, and by the model's judgment of their results."""
    members = list(range(min(n, len(problem))))
    part, scores = problem.part(members), problem.scores(members, problem.auto)
    ranking = rank(scores, part)
    found: dict[str, Any] = {"problem": problem.verdicts.problem, "plain": bool(problem.correct[ranking[0]])}
    assert problem.outcomes is not None
    pair = leading_pair(ranking, problem.outcomes[members], scores.values, ANY)
    if pair is None:
        return found
    found["apart"] = float(scores.values[pair[0]] - scores.values[pair[1]])
    found["pair"] = [bool(problem.correct[i]) for i in pair]
    if live is None or decoder is None or (mixed and found["pair"][0] == found["pair"][1]):
        return found
    separator, started = ModelSeparator(decoder), time.thread_time()
    for name, judge in (("vote", None), ("judge", ModelJudge(decoder))):
        chooser = Behaviour(runner=Observer(problem.observer, live), separate=separator, judge=judge, close=ANY)
        again = chooser.score(part)
        found[name] = bool(problem.correct[rank(again, part)[0]])
        told = again.details["separation"]
        found.setdefault("tokens", told["generated_tokens"])
        found |= {"inputs": len(told["inputs"]), "questions": told["questions"]}
    found["seconds"] = time.thread_time() - started
    return found


def table(found: Sequence[dict[str, Any]]) -> Table:
    """Return the gains over the choice by the recorded inputs, for all problems and where the groups are close."""
    sample, rows = Resampling(len(found)), []
    for label, close in ((f"scores differ by at most {CLOSE}", CLOSE), ("any two groups", ANY)):
        here = [one for one in found if one.get("apart", np.inf) <= close]
        asked = [one for one in here if "vote" in one]
        only = [sum(one["pair"] == pair for one in here) for pair in ([True, False], [False, True])]
        cells = [str(len(here)), f"{only[0]}, {only[1]}", str(len(asked)), str(sum(one["inputs"] > 0 for one in asked))]
        for name in ("vote", "judge"):
            gain = [float(one[name]) - float(one["plain"]) if one in asked else 0.0 for one in found]
            better, worse = sum(g > 0 for g in gain), sum(g < 0 for g in gain)
            cells.append(f"{percent(sample.mean(np.array(gain)), signed=True)}; {better} won, {worse} lost")
        costs = [np.mean([one[cost] for one in asked]) if asked else np.nan for cost in ("tokens", "questions")]
        rows.append((label, *cells, *(f"{cost:.0f}" for cost in costs)))
    head = (
        "two groups whose",
        "problems",
        "only the first, only the second right",
        "asked",
        "separated",
        "vote, points of all problems",
        "judge, points",
    )
    return (*head, "tokens", "questions"), rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("answers", type=Path, help="file of the answers, which is written or continued")
    parser.add_argument("--model")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--n", type=int, default=16)
    parser.add_argument("--mixed", action="store_true", help="ask only where one of the two is right")
    parser.add_argument("--limit", type=int, help="most problems that are added to the answers")
    parser.add_argument("--parallel", type=int, default=4, help="problems that are measured at the same time")
    options = parser.parse_args()
    found = measured(options.answers)
    todo = []
    if options.model or not found:
        done = {one["problem"] for one in found}
        todo = [
            p for p in read_source(options.run).problems if p.verdicts.problem not in done and p.outcomes is not None
        ]
    todo = todo[: options.limit]
    if options.model:
        decoder = NeuronAgreementDecoder(options.model, dtype=options.dtype)
        with auto_sandbox(parallel=1) as sandbox:
            live = BehaviourRunner(sandbox)
            found += measure_missing(
                options.answers,
                todo,
                lambda problem: measure(problem, options.n, live, decoder, mixed=options.mixed),
                parallel=options.parallel,
            )
    else:
        found += [measure(problem, options.n, None, None, mixed=options.mixed) for problem in todo]
    right = np.array([float(one["plain"]) for one in found])
    print(f"\n{len(found)} problems, {percent(Resampling(len(found)).mean(right))}% right by the recorded inputs\n")
    print(to_markdown(table(found)))


if __name__ == "__main__":
    main()
