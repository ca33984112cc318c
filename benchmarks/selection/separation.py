"""Measure what it gains to let the model decide between the two leading groups of programs; prints a table.

    python benchmarks/selection/separation.py RUN ANSWERS.jsonl --model MODEL [--dtype int8] [--mixed] [--n 16]
    python benchmarks/selection/separation.py RUN ANSWERS.jsonl

RUN is the folder of a scored run of code. The model is asked for every problem on whose inputs two groups of working
programs differ, with --mixed only where one of the two leading programs is right, since nothing is to be gained
elsewhere. It proposes inputs that separate the two, on which a sandbox runs the programs, judges their results, and
judges the answers themselves. `behaviour` asks by itself where the scores are close. An interrupted measurement goes on
where it was. Without a model, the answers that are there are counted, and without these the problems that could be
decided. Intervals are 95% bootstrap intervals over problems.
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
    """Return whether the choice is right by the recorded inputs, and if the model decides in each of `WAYS`."""
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
    separator, started = ModelSeparator(decoder), time.perf_counter()
    for name, judge in (("vote", None), ("results", ModelJudge(decoder))):
        chooser = Behaviour(runner=Observer(problem.observer, live), separate=separator, judge=judge, close=ANY)
        again = chooser.score(part)
        found[name] = bool(problem.correct[rank(again, part)[0]])
        told = again.details["separation"]
        found.setdefault("tokens", told["generated_tokens"])
        found |= {"inputs": len(told["inputs"]), "questions": told["questions"]}
        found[f"{name}_seconds"] = time.perf_counter() - started
    judge, prompt = ModelJudge(decoder), problem.group.prompt
    texts = [problem.group.rollouts[place].text for place in pair]
    started = time.perf_counter()
    first, second = judge.p_true(prompt, texts)
    found["p_true"], found["p_true_seconds"] = found["pair"][second > first], time.perf_counter() - started
    started = time.perf_counter()
    # asked in both orders, as models prefer the first or the second answer
    better, worse = judge.compare(prompt, [(texts[0], texts[1]), (texts[1], texts[0])])
    found["comparison"], found["comparison_seconds"] = found["pair"][better < worse], time.perf_counter() - started
    return found


WAYS = {
    "vote": "the vote on the model's inputs",
    "results": "the model's judgment of the results on its inputs",
    "p_true": "the model's estimate for each answer alone (`p_true`)",
    "comparison": "the model's comparison of the answers, in both orders (`self_verify`)",
}


def table(found: Sequence[dict[str, Any]]) -> Table:
    """Return the gains over the choice by the recorded inputs, for all problems and where the groups are close."""
    sample, rows = Resampling(len(found)), []
    for name, label in WAYS.items():
        cells = []
        for close in (CLOSE, ANY):
            asked = [one.get("apart", np.inf) <= close and name in one for one in found]
            gain = np.array(
                [
                    float(one[name]) - float(one["plain"]) if there else 0.0
                    for one, there in zip(found, asked, strict=True)
                ]
            )
            won, lost = int((gain > 0).sum()), int((gain < 0).sum())
            cells.append(f"{percent(sample.mean(gain), signed=True)} ({won} won, {lost} lost)")
        answers = [one for one in found if name in one]
        seconds = np.mean([one[f"{name}_seconds"] for one in answers]) if answers else np.nan
        rows.append((label, *cells, f"{seconds:.0f}"))
    head = ("decided by", f"points where the scores differ by at most {CLOSE}", "points, any two groups", "seconds")
    return head, rows


def counts(found: Sequence[dict[str, Any]]) -> str:
    """Return at how many problems two groups of programs lead, which of them are right, and what was asked."""
    told = []
    for label, close in ((f"whose scores differ by at most {CLOSE}", CLOSE), ("of any scores", ANY)):
        here = [one for one in found if one.get("apart", np.inf) <= close]
        first, second = (sum(one["pair"] == pair for one in here) for pair in ([True, False], [False, True]))
        told.append(
            f"Two groups {label}: {len(here)} problems, only the first right at {first}, only the second {second}."
        )
    asked = [one for one in found if "vote" in one]
    if asked:
        separated = sum(one["inputs"] > 0 for one in asked)
        tokens, questions = (np.mean([one[cost] for one in asked]) for cost in ("tokens", "questions"))
        told.append(
            f"Asked at {len(asked)}; {separated} separated; {tokens:.0f} tokens and {questions:.1f} questions each."
        )
    return "\n".join(told)


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
    print(counts(found), to_markdown(table(found)), sep="\n\n")


if __name__ == "__main__":
    main()
