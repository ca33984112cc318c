"""Measure what it gains to ask the model about its candidates, and what it costs; prints a table for every question.

    python benchmarks/selection/model_evidence.py RUN ANSWERS.jsonl --ask assertions --model MODEL [--dtype int8]
    python benchmarks/selection/model_evidence.py RUN ANSWERS.jsonl

RUN is the folder of a scored run of code. The model writes assertions, on which all programs run in a sandbox (`codet`
and `b4`), or says how likely each answer is right (`p_true`), or compares answers in pairs (`self_verify`). A question
asked of some problems only is compared on these. An interrupted measurement goes on where it was, and without a model
the answers that are there are tabulated. Intervals are 95% bootstrap intervals over problems.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from nad_sandbox import AssertionRunner, auto_sandbox
from nad_sandbox.behaviour.assertion_runner import AssertionResults
from problems import Problem, read_source
from resumable import measure_missing, measured

from nad_agents.decoder import NeuronAgreementDecoder
from nad_agents.evaluation.statistics import Resampling, auroc
from nad_agents.evaluation.tables import Table, percent, plain, to_markdown
from nad_agents.input_proposals import ModelAssertions
from nad_agents.rollouts import RolloutGroup
from nad_agents.selectors import B4, CodeT, NADFusion, PTrue, Scores, SelfVerify, rank
from nad_agents.selectors.fusion import rank_share
from nad_agents.selectors.separation import leading_pair
from nad_agents.self_evaluation import ModelJudge

ANY = 1.0

Answer = dict[str, Any]
Way = Callable[[Problem, Answer], Scores]


class RecordedAssertions:
    """Answers with the assertions that each candidate passed."""

    def __init__(self, group: RolloutGroup, answer: Answer) -> None:
        self._assertions = tuple(answer["assertions"])
        self._passed = {r.text: tuple(row) for r, row in zip(group.rollouts, answer["passed"], strict=True)}

    def check(self, answers: Sequence[str], *, prompt: str = "") -> AssertionResults:
        """Return which assertions the programs pass."""
        del prompt
        return AssertionResults(self._assertions, tuple(self._passed[text] for text in answers))


def ask_for_assertions(problem: Problem, *, decoder: NeuronAgreementDecoder, sandbox: Any) -> Answer:
    """Let the model write assertions, and run the programs on them."""
    write = ModelAssertions(decoder)
    started = time.perf_counter()
    results = AssertionRunner(sandbox, write).check(_texts(problem), prompt=problem.group.prompt)
    seconds = time.perf_counter() - started
    return {
        "assertions": results.assertions,
        "passed": [[int(one) for one in row] for row in results.passed],
        "tokens": write.generated_tokens,
        "questions": 1,
        "seconds": seconds,
    }


def ask_about_answers(problem: Problem, *, decoder: NeuronAgreementDecoder, selector: type) -> Answer:
    """Let the model judge the answers."""
    judge = ModelJudge(decoder)
    started = time.perf_counter()
    scores = selector(judge=judge).score(problem.group)
    seconds = time.perf_counter() - started
    values = [None if np.isnan(value) else float(value) for value in scores.values]
    return {"values": values, "tokens": 0, "questions": judge.questions, "seconds": seconds}


def _texts(problem: Problem) -> list[str]:
    return [rollout.text for rollout in problem.group.rollouts]


def _passed(problem: Problem, answer: Answer, selector: type[CodeT], **options: Any) -> Scores:
    return selector(runner=RecordedAssertions(problem.group, answer), **options).score(problem.group)


def _judged(problem: Problem, answer: Answer) -> Scores:
    values = np.array([np.nan if value is None else value for value in answer["values"]])
    evidence = problem.scores(range(len(problem)), NADFusion())
    return Scores(values, (evidence.values, *evidence.tie_breaks))


def _with_behaviour(way: Way, problem: Problem, answer: Answer) -> Scores:
    """Add the ranks by what the programs do and by another score."""
    behaviour, other = problem.scores(range(len(problem)), problem.auto), way(problem, answer)
    total = rank_share(behaviour.values) + rank_share(other.values)
    return Scores(np.round(total, 9), (behaviour.values, *behaviour.tie_breaks))


def _of_the_leading(way: Way, problem: Problem, answer: Answer) -> Scores:
    """Let the mean of another score decide between the two leading groups of programs."""
    behaviour, other = problem.scores(range(len(problem)), problem.auto), way(problem, answer)
    assert problem.outcomes is not None
    ranking = rank(behaviour, problem.group)
    pair = leading_pair(ranking, problem.outcomes, behaviour.values, ANY)
    first = np.zeros(len(problem))
    if pair is not None:
        # candidates that pruning dropped have no score, and come last
        values = np.where(np.isnan(other.values), np.nanmin(other.values) - 1, other.values)
        means = [values[problem.behaviours == problem.behaviours[place]].mean() for place in pair]
        if means[1] > means[0]:
            first[pair[1]] = 1
    return Scores(first, (behaviour.values, *behaviour.tie_breaks))


ASKED: Mapping[str, dict[str, Way]] = {
    "assertions": {
        "codet": partial(_passed, selector=CodeT),
        "codet, pruned": partial(_passed, selector=CodeT, pruned=True),
        "b4": partial(_passed, selector=B4),
    },
    "p_true": {"p_true": _judged},
    "self_verify": {"self_verify": _judged},
}


def table(problems: Mapping[str, Problem], answers: Sequence[Answer], ways: Mapping[str, Way]) -> Table:
    """Return what the answers to one question gain, alone and together with what the programs do, and their cost."""
    here = [(problems[one["problem"]], one) for one in answers]
    sample = Resampling(len(here))
    chosen: dict[str, Way] = {
        "nad_fusion": lambda problem, _: problem.scores(range(len(problem)), NADFusion()),
        "behaviour": lambda problem, _: problem.scores(range(len(problem)), problem.auto),
    }
    for name, way in ways.items():
        chosen |= {
            name: way,
            f"rank by behaviour + rank by {name}": partial(_with_behaviour, way),
            f"the two leading behaviors, by {name}": partial(_of_the_leading, way),
        }
    right, checked = ({label: np.zeros(len(here)) for label in chosen} for _ in range(2))
    areas = {label: np.full(len(here), np.nan) for label in chosen}
    for place, (problem, answer) in enumerate(here):
        failing = np.zeros(len(problem)) if problem.examples is None else ~problem.examples
        for label, way in chosen.items():
            scores = way(problem, answer)
            ranking = rank(scores, problem.group)
            right[label][place] = problem.correct[ranking[0]]
            checked[label][place] = problem.correct[min(ranking, key=lambda i, failing=failing: bool(failing[i]))]
            areas[label][place] = auroc(scores.values, problem.correct)
        problem.forget()
    average = np.array([problem.correct.mean() for problem, _ in here])
    oracle = np.array([float(problem.correct.any()) for problem, _ in here])
    rows = [("random", percent(sample.mean(average)), *[""] * 6)]
    for label, solved in right.items():
        gains = [percent(sample.mean(solved - other), signed=True) for other in (average, right["behaviour"])]
        closed = percent(sample.ratio(solved - average, oracle - average))
        first = [percent(sample.mean(checked[label])), percent(sample.ratio(checked[label], oracle))]
        rows.append((label, percent(sample.mean(solved)), *gains, closed, plain(sample.mean(areas[label])), *first))
    rows.append(("any of N", percent(sample.mean(oracle)), *[""] * 6))
    head = ("choice", "solved", "over random", "over behaviour", "share of the gap closed", "AUROC")
    return (*head, "solved, examples checked", "share of any of N"), rows


def cost(answers: Sequence[Answer]) -> str:
    """Say what the answers to one question cost."""
    tokens, questions, seconds = (
        np.mean([one[name] for one in answers]) for name in ("tokens", "questions", "seconds")
    )
    return f"for each problem {tokens:.0f} tokens generated, {questions:.1f} questions, {seconds:.1f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("answers", type=Path, help="file of the answers, which is written or continued")
    parser.add_argument("--ask", nargs="+", choices=list(ASKED), default=["assertions"])
    parser.add_argument("--model")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--limit", type=int, help="number of problems that are asked about, the first ones")
    parser.add_argument("--parallel", type=int, default=4, help="problems that are asked about at the same time")
    options = parser.parse_args()
    problems = {p.verdicts.problem: p for p in read_source(options.run).problems if p.outcomes is not None}
    found = measured(options.answers)
    if options.model:
        decoder = NeuronAgreementDecoder(options.model, dtype=options.dtype)
        with ExitStack() as stack:
            for ask in options.ask:
                if ask == "assertions":
                    sandbox = stack.enter_context(auto_sandbox(parallel=1))
                    question = partial(ask_for_assertions, decoder=decoder, sandbox=sandbox)
                else:
                    selector = PTrue if ask == "p_true" else SelfVerify
                    question = partial(ask_about_answers, decoder=decoder, selector=selector)

                def measure(problem: Problem, ask: str = ask, question: Any = question) -> Answer:
                    return {"problem": problem.verdicts.problem, "ask": ask, **question(problem)}

                done = {one["problem"] for one in found if one["ask"] == ask}
                todo = [p for name, p in list(problems.items())[: options.limit] if name not in done]
                found += measure_missing(options.answers, todo, measure, parallel=options.parallel)
    for ask, ways in ASKED.items():
        answers = [one for one in found if one["ask"] == ask]
        if answers:
            print(f"\n{ask}, {len(answers)} problems; {cost(answers)}\n")
            print(to_markdown(table(problems, answers, ways)))


if __name__ == "__main__":
    main()
