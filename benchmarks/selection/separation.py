"""Measure what inputs gain that a model proposes to separate the two leading groups of programs; prints a table.

    python benchmarks/selection/separation.py RUN ANSWERS.jsonl --model MODEL [--dtype int8] [--limit 20] [--n 16]
    python benchmarks/selection/separation.py RUN ANSWERS.jsonl

RUN is the folder of a scored run of code. The model is asked for every problem on whose inputs two groups of working
programs differ, in the order of recording, and a sandbox runs the programs on the proposed inputs. The first row
counts the problems at which `behaviour` would ask by itself (`close`). An interrupted measurement goes on where it
was; without a model, the answers that are there are counted. Intervals are 95% bootstrap intervals over problems.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from nad_sandbox import BehaviourRunner, auto_sandbox
from problems import Problem, read_source

from nad_agents.decoder import NeuronAgreementDecoder
from nad_agents.evaluation.measures import RecordedBehaviour
from nad_agents.evaluation.statistics import Resampling
from nad_agents.evaluation.tables import Table, percent, to_markdown
from nad_agents.input_proposals import ModelSeparator
from nad_agents.selectors import Behaviour, rank
from nad_agents.selectors.observations import InputProposer, ProgramObservations
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
    problem: Problem, members: list[int], live: BehaviourRunner, decoder: NeuronAgreementDecoder
) -> dict[str, Any]:
    """Choose by the recorded inputs, by the vote on separating inputs, and by the model's judgment of their results."""
    part = problem.part(members)
    plain = rank(problem.scores(members, problem.auto), part)
    found: dict[str, Any] = {"problem": problem.verdicts.problem, "n": len(members)}
    found["plain"] = bool(problem.correct[members[plain[0]]])
    values = problem.scores(members, problem.auto).values
    separator, started = ModelSeparator(decoder), time.process_time()
    for name, judge in (("vote", None), ("judge", ModelJudge(decoder))):
        runner = Observer(problem.observer, live)
        scores = Behaviour(runner=runner, separate=separator, judge=judge, close=ANY).score(part)
        told = scores.details.get("separation")
        if told is None:
            return found
        found[name] = bool(problem.correct[members[rank(scores, part)[0]]])
        found.setdefault("tokens", told["generated_tokens"])
        found |= {"inputs": len(told["inputs"]), "questions": told["questions"]}
        first, second = told["candidates"]
        found["apart"] = float(values[first] - values[second])
        found["pair"] = [bool(problem.correct[members[i]]) for i in (first, second)]
    found["seconds"] = time.process_time() - started
    return found


def table(found: Sequence[dict[str, Any]]) -> Table:
    """Return the gains over the choice by the recorded inputs, for all problems and where the groups are close."""
    sample, rows = Resampling(len(found)), []
    for label, close in ((f"scores differ by at most {CLOSE}", CLOSE), ("any two groups", ANY)):
        asked = [one for one in found if "vote" in one and one["apart"] <= close]
        cells = [str(len(asked)), str(sum(one["inputs"] > 0 for one in asked))]
        cells.append(str(sum(one["pair"][0] != one["pair"][1] for one in asked)))
        for name in ("vote", "judge"):
            gain = [
                float(one[name]) - float(one["plain"]) if "vote" in one and one["apart"] <= close else 0.0
                for one in found
            ]
            cells.append(percent(sample.mean(np.array(gain)), signed=True))
        if asked:
            cells += [f"{np.mean([one[cost] for one in asked]):.0f}" for cost in ("tokens", "questions")]
        rows.append((label, *cells))
    head = ("asked where", "problems", "separated", "one of the two right", "vote, points", "judge, points")
    return (*head, "tokens", "questions"), rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("answers", type=Path, help="file of the answers, which is written or continued")
    parser.add_argument("--model")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--n", type=int, default=16)
    parser.add_argument("--limit", type=int, help="most problems at which the model is asked")
    options = parser.parse_args()
    lines = options.answers.read_text(encoding="utf-8").splitlines() if options.answers.exists() else []
    found = [json.loads(line) for line in lines]
    if options.model:
        decoder = NeuronAgreementDecoder(options.model, dtype=options.dtype)
        done = {one["problem"] for one in found}
        with auto_sandbox(parallel=1) as sandbox, options.answers.open("a", encoding="utf-8") as file:
            live = BehaviourRunner(sandbox)
            for problem in read_source(options.run).problems:
                if options.limit is not None and sum("vote" in one for one in found) >= options.limit:
                    break
                if problem.verdicts.problem in done or problem.outcomes is None:
                    continue
                members = list(range(min(options.n, len(problem))))
                found.append(measure(problem, members, live, decoder))
                file.write(json.dumps(found[-1]) + "\n")
                file.flush()
                print(found[-1], flush=True)
    right = np.array([float(one["plain"]) for one in found])
    print(f"\n{len(found)} problems, {percent(Resampling(len(found)).mean(right))}% right by the recorded inputs\n")
    print(to_markdown(table(found)))


if __name__ == "__main__":
    main()
