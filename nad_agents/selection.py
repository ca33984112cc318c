"""Turn finished candidates into the selection that a caller sees: rank them, verify down the ranking, add evidence.

A selection runs on a thread of the caller's, after the engine's thread has finished the request, and writes nothing
that another thread reads. `check_configuration` refuses settings that cannot work before anything is generated.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nad_agents.confidence import estimate_confidence
from nad_agents.engine.base import GenerationRequest
from nad_agents.engine.scheduled_request import Cancellation, GenerationResult
from nad_agents.events import DecodingEvent, Ranking, Verified
from nad_agents.exceptions import ConfigurationError, GenerationCancelledError, LowConfidenceError
from nad_agents.neurons.activated_sets import ComparisonConfig, similarity_matrix, unique_counts
from nad_agents.pruning import PruningDecision
from nad_agents.rollouts import Rollout, RolloutGroup
from nad_agents.selectors import Selector, check_candidates, check_recorder, get_selector, rank
from nad_agents.types import Candidate, NADConfig, SamplingConfig, Selection, Timings, Usage, VerificationConfig
from nad_agents.verification import Verifier, WalkResult, is_tested_pass, walk_ranking

__all__ = [
    "Ranked",
    "SelectionPlan",
    "check_configuration",
    "describe_candidates",
    "make_selector",
    "rank_passing",
    "rank_rollouts",
    "token_usage",
]


def make_selector(config: NADConfig, comparison: ComparisonConfig) -> Selector:
    """Make the selector that a configuration asks for.

    Args:
        config: Names the selector and its options.
        comparison: How the selector compares candidates.


    Raises:
        ConfigurationError: There is no such selector, or it does not take these options.
    """
    return get_selector(config.selector, comparison=comparison, **config.selector_options)


def check_configuration(sampling: SamplingConfig, config: NADConfig) -> None:
    """Refuse settings that cannot work, before a model is loaded or anything is generated.

    Args:
        sampling: How candidates are sampled.
        config: How candidates are recorded, compared and pruned.

    Raises:
        ConfigurationError: The selector is unknown, needs more candidates, needs neurons that are not recorded, or
            cannot judge the beginnings of answers; or candidates of several waves would be compared while they grow.
    """
    selector = make_selector(config, ComparisonConfig.from_config(config))
    check_candidates(selector, sampling.n)
    if config.pruning != "never" and config.wave_size(sampling) < sampling.n:
        msg = (
            f"pruning={config.pruning!r} compares all {sampling.n} candidates while they grow, and with "
            f"wave={sampling.wave} and until={config.until!r} only {config.wave_size(sampling)} grow at a time; leave "
            "one of them out"
        )
        raise ConfigurationError(msg)
    check_recorder(selector, record=config.record)
    if config.pruning != "never" and getattr(selector, "needs_whole_answers", False):
        msg = (
            f"{selector.name} compares whole answers and pruning={config.pruning!r} drops candidates before they have "
            "one; set pruning='never', or use a selector such as knn"
        )
        raise ConfigurationError(msg)


@dataclass(frozen=True)
class SelectionPlan:
    """How the winner of one request is selected.

    Attributes:
        request: The request with all its candidates.
        selector: Ranks the candidates.
        comparison: How the selector compares candidates, for the evidence.
        verifier: Judges answers in rank order; None trusts the ranking.
        verification: How candidates are checked in rank order.
        model: Name of the model, for the evidence.
        min_confidence: Lowest acceptable estimated probability that the answer is right.
        on_low_confidence: Whether an answer below this probability is marked or refused.
    """

    request: GenerationRequest
    selector: Selector
    comparison: ComparisonConfig
    verifier: Verifier | None
    verification: VerificationConfig
    model: str
    min_confidence: float | None = None
    on_low_confidence: Literal["annotate", "error"] = "annotate"

    def select(
        self,
        result: GenerationResult,
        decision: PruningDecision | None,
        *,
        cancellation: Cancellation,
        send: Callable[[DecodingEvent], None] | None = None,
    ) -> Selection:
        """Rank the candidates, verify down the ranking, and put the evidence together.

        Args:
            result: The finished candidates.
            decision: What pruning decided, if it did.
            cancellation: Ends the verification early.
            send: Called with the ranking and then with each verdict, on this thread.

        Raises:
            NoCandidatePassedError: No candidate passed, and the verification config asks for an error.
            LowConfidenceError: The answer's confidence is below the minimum, and the config asks for an error.
            VerificationError: The verifier failed.
            GenerationCancelledError: The request was cancelled while candidates were checked.
            GenerationTimeoutError: Its deadline passed meanwhile.
        """
        group = result.group
        # 1. rank
        started = time.perf_counter()
        ranked = rank_rollouts(group, self.selector, self.comparison, decision)
        select_seconds = time.perf_counter() - started
        # 2. verify; a pruned candidate has no whole answer to check
        started = time.perf_counter()
        whole = [i for i in ranked.ranking if group.rollouts[i].finish_reason != "pruned"]
        if send is not None:
            to_check = tuple(whole[: self.verification.max_checks]) if self.verifier is not None else ()
            send(Ranking(ranked.ranking, tuple(map(float, ranked.scores)), to_check))
        winner, verified, passed, verdicts = ranked.ranking[0], None, None, {}
        if self.verifier is not None:
            walk = self._walk(self.verifier, whole, group, cancellation, send)
            winner, verified = walk.winner, walk.passed
            if self.verification.check_all and walk.passed:
                ranked = rank_passing(ranked, group, self.selector, [i for i, v in walk.verdicts.items() if v.passed])
                winner = ranked.ranking[0]
            # a pass for which nothing was tested tells no more than the agreement does
            passed = verified if not verified or is_tested_pass(walk.verdicts[winner]) else None
            verdicts = {i: verdict.to_dict() for i, verdict in walk.verdicts.items()}
        verify_seconds = time.perf_counter() - started
        chosen_by = ranked.selector or self.selector.name
        confidence = estimate_confidence(chosen_by, ranked.votes, winner, passed=passed)
        low = None if self.min_confidence is None else confidence is None or confidence < self.min_confidence
        if low and self.on_low_confidence == "error":
            raise LowConfidenceError(confidence, self.min_confidence)
        # 3. evidence
        recorded = self.request.recording is not None
        candidates, matrix = describe_candidates(group, ranked, verdicts, recorded=recorded)
        prompt_tokens = len(self.request.prompt_ids) if result.prompt_tokens is None else result.prompt_tokens
        return Selection(
            text=group.rollouts[winner].text,
            winner=winner,
            ranking=ranked.ranking,
            candidates=candidates,
            selector=chosen_by,
            seed=self.request.seed,
            similarity_matrix=matrix,
            usage=token_usage(
                group,
                prompt_tokens,
                winner,
                cached_tokens=result.cached_tokens,
                not_generated=self.request.sampling.n - len(group),
            ),
            timings=Timings(
                queued=result.queued,
                prefill=result.prefill,
                decode=result.decode,
                select=select_seconds,
                verify=verify_seconds,
            ),
            verified=verified,
            confidence=confidence,
            low_confidence=low,
            model=self.model,
            details=ranked.details,
        )

    def _walk(
        self,
        verifier: Verifier,
        ranking: Sequence[int],
        group: RolloutGroup,
        cancellation: Cancellation,
        send: Callable[[DecodingEvent], None] | None,
    ) -> WalkResult:
        try:
            return walk_ranking(
                ranking,
                [rollout.text for rollout in group.rollouts],
                verifier,
                prompt=self.request.prompt,
                parallel=self.verification.parallel,
                max_checks=self.verification.max_checks,
                max_seconds=self.verification.max_seconds,
                check_all=self.verification.check_all,
                on_failure=self.verification.on_failure,
                on_verdict=None if send is None else lambda i, verdict: send(Verified(i, verdict.to_dict())),
                cancelled=lambda: cancellation.cancelled,
            )
        except GenerationCancelledError as error:
            if cancellation.timed_out:
                raise cancellation.error() from error
            raise


@dataclass(frozen=True)
class Ranked:
    """The ranking of a request.

    Attributes:
        ranking: Candidate indices, best first; pruned ones last.
        scores: float64 [N].
        details: The selector's evidence.
        compared: The group that scores and similarities refer to.
        comparison: How that group was compared.
        selector: Name of the selector that decided, if the request's selector chose among others.
        votes: Each candidate's answers, if the selector compared the answers of all candidates; see `Scores.votes`.
    """

    ranking: tuple[int, ...]
    scores: NDArray[np.float64]
    details: dict[str, Any]
    compared: RolloutGroup
    comparison: ComparisonConfig
    selector: str | None = None
    votes: NDArray[np.int64] | None = None


def rank_rollouts(
    group: RolloutGroup, selector: Selector, comparison: ComparisonConfig, decision: PruningDecision | None
) -> Ranked:
    """Rank the candidates of a request.

    Without pruning the selector ranks all of them. After pruning it ranks the survivors on everything that they
    generated, if they are enough for the selector; the pruned ones follow in the order of the decision.

    Args:
        group: Every candidate.
        selector: Scores the candidates.
        comparison: How the selector compares candidates if nothing was pruned.
        decision: What pruning decided, if it did.
    """
    if decision is None:
        scores = selector.score(group)
        ranking = tuple(rank(scores, group))
        return Ranked(ranking, scores.values, scores.details, group, comparison, scores.selector, scores.votes)
    values, details = decision.scores.values.copy(), dict(decision.scores.details)
    survivors, chosen = list(decision.keep), decision.scores.selector
    if len(survivors) >= max(2, selector.min_candidates):
        part = RolloutGroup([group.rollouts[i] for i in survivors], group.layout, group.prompt)
        final = selector.score(part)
        values[survivors] = final.values
        details, chosen = {"survivors": survivors, **final.details}, final.selector
        survivors = [survivors[i] for i in rank(final, part)]
    dropped = [i for i in decision.ranking if i not in survivors]
    return Ranked((*survivors, *dropped), values, details, decision.group, decision.comparison, chosen)


def rank_passing(ranked: Ranked, group: RolloutGroup, selector: Selector, passing: Collection[int]) -> Ranked:
    """Rank the candidates that passed the checks by comparing only them; the others follow in their order.

    Wrong candidates that agree with one another then have no influence on the choice among those that passed.

    Args:
        ranked: The ranking of all candidates.
        group: Every candidate.
        selector: Scores the candidates.
        passing: Candidates that passed the checks.
    """
    first = [i for i in ranked.ranking if i in passing]
    details = {**ranked.details, "passed": first}
    if len(first) >= max(2, selector.min_candidates):
        part = RolloutGroup([group.rollouts[i] for i in first], group.layout, group.prompt)
        first = [first[place] for place in rank(selector.score(part), part)]
        details["passed"] = first
    return replace(ranked, ranking=(*first, *(i for i in ranked.ranking if i not in passing)), details=details)


def describe_candidates(
    group: RolloutGroup, ranked: Ranked, verdicts: Mapping[int, dict[str, Any]], *, recorded: bool
) -> tuple[tuple[Candidate, ...], tuple[tuple[float, ...], ...] | None]:
    """Return the candidates as the caller sees them, and the similarity matrix.

    Args:
        group: Every candidate in full.
        ranked: The ranking.
        verdicts: The verifier's verdicts by candidate.
        recorded: Whether neurons were recorded; the matrix is None if they were not.
    """
    n = len(group)
    counts: Sequence[int | None] = [None] * n
    agreement: Sequence[float | None] = [None] * n
    matrix = None
    if recorded:
        counts = [int(count) for count in unique_counts(ranked.compared, ranked.comparison)]
        similarity = similarity_matrix(ranked.compared, ranked.comparison)
        matrix = tuple(tuple(float(value) for value in row) for row in similarity)
        if n > 1:
            agreement = [float((row.sum() - row[i]) / (n - 1)) for i, row in enumerate(similarity)]
    ranks = {candidate: place for place, candidate in enumerate(ranked.ranking)}
    candidates = tuple(
        Candidate(
            index=i,
            rank=ranks[i],
            score=float(ranked.scores[i]),
            text=rollout.text,
            tokens=len(rollout),
            activated_neurons=counts[i],
            agreement=agreement[i],
            mean_logprob=_mean_logprob(rollout),
            finish_reason=rollout.finish_reason,
            verdict=verdicts.get(i),
        )
        for i, rollout in enumerate(group.rollouts)
    )
    return candidates, matrix


def _mean_logprob(rollout: Rollout) -> float | None:
    """Return a candidate's mean log-probability; None if it has no token, or the server gave no log-probabilities."""
    mean = float(rollout.logprobs.mean()) if len(rollout) else math.nan
    return mean if math.isfinite(mean) else None


def token_usage(
    group: RolloutGroup, prompt_tokens: int, winner: int, *, cached_tokens: int = 0, not_generated: int = 0
) -> Usage:
    """Count the tokens of a request and estimate what was saved.

    Args:
        group: The candidates.
        prompt_tokens: Number of tokens of the prompt.
        winner: The chosen candidate.
        cached_tokens: Number of prompt tokens that were not read again.
        not_generated: Number of requested candidates that were not generated because sampling stopped early.
    """
    lengths = [len(rollout) for rollout in group.rollouts]
    pruned = [i for i, rollout in enumerate(group.rollouts) if rollout.finish_reason == "pruned"]
    longest = max((lengths[i] for i in range(len(lengths)) if i not in pruned), default=0)
    return Usage(
        prompt_tokens=prompt_tokens,
        generated_tokens=sum(lengths),
        winner_tokens=lengths[winner],
        saved_tokens=sum(max(0, longest - lengths[i]) for i in pruned)
        + (not_generated * sum(lengths)) // max(len(lengths), 1),
        cached_tokens=cached_tokens,
    )
