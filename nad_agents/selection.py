"""Turn finished candidates into the selection that a caller sees: rank them, verify down the ranking, add evidence.

A selection runs on a thread of the caller's, after the engine's thread has finished the request, and writes nothing
that another thread reads. `check_configuration` refuses settings that cannot work before anything is generated.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from nad_agents.candidate_evidence import describe_candidates, token_usage
from nad_agents.confidence import estimate_confidence
from nad_agents.engine.base import GenerationRequest
from nad_agents.engine.scheduled_request import Cancellation, GenerationResult
from nad_agents.events import DecodingEvent, Ranking, Verified
from nad_agents.exceptions import ConfigurationError, GenerationCancelledError, LowConfidenceError
from nad_agents.neurons.comparison import ComparisonConfig
from nad_agents.pruning import PruningDecision
from nad_agents.ranking import rank_passing, rank_rollouts
from nad_agents.rollouts import RolloutGroup
from nad_agents.selectors import Selector, check_candidates, check_recorder, get_selector
from nad_agents.types import NADConfig, SamplingConfig, Selection, Timings, VerificationConfig
from nad_agents.verification import Verifier, WalkResult, is_tested_pass, walk_ranking

__all__ = ["SelectionPlan", "check_configuration", "make_selector"]


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
