"""Agreement on behavior: run all candidates' programs on the same inputs, and prefer the most common behavior.

This goes beyond the paper. The outputs of programs can be compared where their texts cannot, and no expected output is
needed (minimum Bayes risk over executed programs: MBR-exec, arXiv 2204.11454). `behaviour` counts on how many inputs
candidates agree; `behaviour_groups` counts only candidates that agree on every input, which one odd input breaks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from nad_agents.exceptions import ConfigurationError
from nad_agents.rollouts import RolloutGroup
from nad_agents.selectors.assertions import AssertionRunner, b4_scores, evidence_of
from nad_agents.selectors.base import Scores, SelectorBase, check_number, content_order, rank
from nad_agents.selectors.fusion import NADFusion, rank_share
from nad_agents.selectors.observations import BehaviourObserver, ProposalObserver, label_outcomes, missing_modules
from nad_agents.selectors.separation import InputSeparator, OutcomeJudge, leading_pair, separate

__all__ = ["Behaviour", "BehaviourGroups"]


@dataclass(frozen=True)
class Behaviour(SelectorBase):
    """Scores a candidate by the share of the others that do the same as its program, averaged over the inputs.

    A candidate that fails on an input agrees with no other there; an exception that the program itself raises is a
    result and no failure. A candidate without tokens gets NaN. Ties are broken by the ranks by agreement and
    log-probability (`NADFusion`), which decide alone where nothing can be observed. ``details`` holds the ``inputs``;
    under ``groups`` the label of the group of candidates that agree on every input (0 for the largest group that works,
    None for a candidate without tokens); and under ``behaviours`` the ``size`` and the ``outcomes`` of each group as
    text. Without observations all three are empty, and ``note`` says so. Modules that the sandbox lacks are listed
    under ``missing_modules``, each with the number of candidates that import it.

    With `separate`, a model proposes further inputs if the two leading groups are close: inputs on which they differ.
    Those that do tell the two apart count like the others, unless a judge decides which results are right.
    ``details["separation"]`` holds these inputs, both results, and the cost in tokens, questions and seconds.

    With `assertions`, which a model writes, the score is the mean of two ranks: by behavior, and by the assertions that
    the program passes, as in `b4`. Each rank is the share of the other candidates that a candidate beats. ``details``
    holds the ``assertions``, and under ``passed`` the number that each candidate passes.

    Attributes:
        runner: Runs the programs.
        separate: Proposes inputs on which the leading groups differ; None adds no inputs.
        judge: Judges the results on these inputs, so that its preference decides between the two groups.
        close: Greatest difference of the scores at which the two leading groups are separated.
        assertions: Obtains assertions and runs the programs on them; None leaves them out.
    """

    name: ClassVar[str] = "behaviour"
    min_candidates: ClassVar[int] = 2
    needs_whole_answers: ClassVar[bool] = True

    runner: BehaviourObserver | None = None
    separate: InputSeparator | None = None
    judge: OutcomeJudge | None = None
    close: float = 0.1
    assertions: AssertionRunner | None = None

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            ConfigurationError: There is no runner for the programs, or another option has no use.
        """
        if not hasattr(self.runner, "observe"):
            msg = (
                f"{self.name} runs the candidates' programs and needs to be told where: "
                "give selector_options={'runner': nad_sandbox.BehaviourRunner(sandbox)}"
            )
            raise ConfigurationError(msg)
        check_number(self.name, "close", self.close, 0)
        if self.separate is not None and not hasattr(self.separate, "separate"):
            msg = (
                f"{self.name}: separate={self.separate!r} proposes no inputs for two programs; "
                "give nad_agents.input_proposals.ModelSeparator(decoder)"
            )
            raise ConfigurationError(msg)
        if self.judge is not None and (self.separate is None or not hasattr(self.judge, "prefer")):
            msg = (
                f"{self.name}: a judge decides between programs on separating inputs; give separate=ModelSeparator("
                "decoder) and judge=ModelJudge(decoder)"
            )
            raise ConfigurationError(msg)
        if self.assertions is not None and not hasattr(self.assertions, "check"):
            msg = (
                f"{self.name}: assertions={self.assertions!r} runs no programs; give "
                "nad_sandbox.AssertionRunner(sandbox, nad_agents.input_proposals.ModelAssertions(decoder))"
            )
            raise ConfigurationError(msg)

    def score(self, group: RolloutGroup) -> Scores:
        """Score every candidate, in index order.

        Raises:
            Exception: Anything that the runner raises if it cannot run programs.
        """
        assert self.runner is not None
        n = len(group)
        values = np.full(n, np.nan)
        # 1. run the programs, in content order, so that nothing depends on the candidates' positions
        present = [i for i in content_order(group) if len(group.rollouts[i])]
        if not present:
            return Scores(values, details={"inputs": [], "groups": [None] * n, "behaviours": []})
        answers = [group.rollouts[i].text for i in present]
        observed = self.runner.observe(answers, prompt=group.prompt)
        evidence = NADFusion(comparison=self.comparison).score(group)
        if not observed.inputs:
            nothing = {"inputs": [], "groups": [], "behaviours": [], "note": NOTHING_OBSERVED}
            return Scores(evidence.values, evidence.tie_breaks, nothing)
        # 2. count the agreement on each input
        inputs, outcomes = list(observed.inputs), [list(row) for row in observed.outcomes]
        labels = label_outcomes(outcomes)
        values[present] = self.score_labels(labels)
        tie_breaks = (evidence.values, *evidence.tie_breaks)
        missing = missing_modules(outcomes)
        note: dict[str, Any] = {"missing_modules": missing} if missing else {}
        if not (labels >= 0).any():
            note["note"] = _not_installed(missing) if missing else NOTHING_WORKS
        ranking = [present.index(i) for i in rank(Scores(values, tie_breaks), group) if i in present]
        pair = None if self.separate is None else leading_pair(ranking, labels, values[present], self.close)
        if self.separate is not None and pair is not None:
            runner = cast("ProposalObserver", self.runner)
            found = separate(answers, group.prompt, pair, runner=runner, separator=self.separate, judge=self.judge)
            inputs += found.inputs
            outcomes = [[*row, *more] for row, more in zip(outcomes, found.outcomes, strict=True)]
            labels = np.hstack([labels, found.labels])
            values[present] = self._separated(labels, found.preferred)
            note["separation"] = {"candidates": [present[place] for place in pair], **found.details}
        if self.assertions is not None:
            results = self.assertions.check(answers, prompt=group.prompt)
            if results.assertions:
                passed = np.array(results.passed, dtype=bool)
                tie_breaks = (values.copy(), *tie_breaks)
                values[present] = (rank_share(values[present]) + rank_share(b4_scores(passed))) / 2
                note |= evidence_of(results.assertions, passed, present, n)
        # 3. group candidates with the same behavior, as evidence
        members: dict[tuple[int, ...], list[int]] = {}
        for place, row in enumerate(labels.tolist()):
            members.setdefault(tuple(row), []).append(place)
        ordered = sorted(members.items(), key=lambda item: (max(item[0]) < 0, -len(item[1])))
        groups: list[int | None] = [None] * n
        for label, (_, same) in enumerate(ordered):
            for place in same:
                groups[present[place]] = label
        behaviours = [
            {"size": len(same), "outcomes": [outcome.text for outcome in outcomes[same[0]]]} for _, same in ordered
        ]
        details = {"inputs": inputs, "groups": groups, "behaviours": behaviours, **note}
        votes = np.full((n, labels.shape[1]), -1, dtype=np.int64)
        votes[present] = labels
        return Scores(values, tie_breaks, details, votes=votes)

    def _separated(self, labels: NDArray[np.int64], preferred: int | None) -> NDArray[np.float64]:
        """Score by all inputs; a program that a judge preferred comes first, with those that behave alike."""
        values = self.score_labels(labels)
        if preferred is not None:
            values[(labels == labels[preferred]).all(axis=1)] = np.nextafter(values.max(), np.inf)
        return values

    def score_labels(self, labels: NDArray[np.int64]) -> NDArray[np.float64]:
        """Score candidates by their programs' behavior.

        Args:
            labels: Int64 [candidates, inputs], as `label_outcomes` returns them.

        Returns:
            Float64 [candidates].
        """
        same = (labels[:, None, :] == labels[None, :, :]) & (labels >= 0)[:, None, :]
        agreeing = same.sum(axis=(1, 2)) - (labels >= 0).sum(axis=1)
        return np.asarray(agreeing / (max(len(labels) - 1, 1) * labels.shape[1]), dtype=np.float64)


@dataclass(frozen=True)
class BehaviourGroups(Behaviour):
    """Scores a candidate by the number of candidates whose programs do the same on every input, itself included.

    A candidate that fails on every input gets 0. Everything else is as for `Behaviour`.
    """

    name: ClassVar[str] = "behaviour_groups"

    def score_labels(self, labels: NDArray[np.int64]) -> NDArray[np.float64]:
        """Score candidates by their programs' behavior; see `Behaviour.score_labels`."""
        same = (labels[:, None, :] == labels[None, :, :]).all(axis=2).sum(axis=1)
        return np.where((labels >= 0).any(axis=1), same, 0).astype(np.float64)


NOTHING_OBSERVED = "nothing that the programs do can be observed, so they are ranked by agreement and log-probability"
NOTHING_WORKS = "no program gives a result on any input, so they are ranked by agreement and log-probability"


def _not_installed(missing: Mapping[str, int]) -> str:
    """Return why no program gives a result, where the sandbox lacks what the programs import."""
    names = " and ".join(missing)
    return (
        f"the programs import {names}, which the sandbox lacks, so nothing can be observed and they are ranked by "
        "agreement and log-probability"
    )
