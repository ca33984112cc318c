"""The caller's handle on a prompt that a `ScriptedDecoder` was given; a script takes the place of the engine."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from nad_agents.events import (
    CandidateGrowth,
    DecodingEvent,
    Finished,
    Progress,
    Ranking,
    TextDelta,
    Verified,
    WinnerChosen,
)
from nad_agents.exceptions import GenerationCancelledError
from nad_agents.prompt import Prompt
from nad_agents.rollouts import NeuronLayout, Rollout, RolloutGroup
from nad_agents.testing.script import ScriptedAnswer
from nad_agents.types import Candidate, NADConfig, SamplingConfig, Selection, Usage, VerificationConfig
from nad_agents.verification import Verdict, Verifier, walk_ranking

if TYPE_CHECKING:
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

__all__ = ["ScriptedPendingRequest", "ScriptedRequest"]

_LOGPROB = -1.0
"""Log-probability of every token, nats: a script has no distribution."""


@dataclass(frozen=True)
class ScriptedRequest:
    """A prompt that reached a `ScriptedDecoder`, with the options of the request.

    Attributes:
        prompt: Text or chat messages, as they were submitted.
        text: The user's last message.
        prompt_ids: Tokens of the prompt, chat template included.
        sampling: How candidates were to be sampled.
        config: How they were to be compared.
        tools: Tools on offer, in OpenAI's form.
        chat_template_kwargs: Variables of the chat template.
    """

    prompt: Prompt
    text: str
    prompt_ids: Sequence[int]
    sampling: SamplingConfig
    config: NADConfig
    tools: Sequence[Mapping[str, Any]] = ()
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Result:
    """The unranked candidates, with the attributes that the engine's result has."""

    group: RolloutGroup
    generated: int
    queued: float = 0.0
    prefill: float = 0.0
    decode: float = 0.0


@dataclass(eq=False)
class ScriptedPendingRequest:
    """A submitted prompt whose candidates are known; has the methods of `nad_agents.pending.PendingRequest`.

    Attributes:
        request: The submitted request.
        answer: The script's answer: candidates, or the error to raise.
        tokenizer: Splits the candidates' texts into tokens.
        model: Name of the model.
        selector: Name of the selector.
        verifier: Judges the candidates in rank order; None trusts the ranking.
        verification: How candidates are checked in rank order.
        on_progress: Called once, when all candidates have ended.
        on_rows_freed: Called once, with 0.
        watch: Whether there are events about every candidate.
    """

    request: ScriptedRequest
    answer: ScriptedAnswer | Exception
    tokenizer: PreTrainedTokenizerBase
    model: str
    selector: str
    verifier: Verifier | None
    verification: VerificationConfig
    on_progress: Callable[[Progress], None] | None = None
    on_rows_freed: Callable[[int], None] | None = None
    watch: bool = False
    _cancelled: bool = False
    _group: RolloutGroup | None = None

    def cancel(self) -> None:
        """Stop before the next event or check; without effect on a finished request."""
        self._cancelled = True

    def outcome(self) -> _Result:
        """Return the candidates themselves, unranked; raises what `result` raises before the ranking."""
        group = self._written()
        return _Result(group, sum(map(len, group.rollouts)))

    def result(self) -> Selection:
        """Rank the candidates, verify down the ranking, and return the selection.

        Raises:
            GenerationCancelledError: The request was cancelled.
            NADError: The script's error, or one of the verifier.
        """
        *_, last = self.events()
        assert isinstance(last, Finished)
        return last.selection

    async def aresult(self) -> Selection:
        """`result` on another thread, since a verifier may take a while."""
        return await asyncio.to_thread(self.result)

    def events(self) -> Generator[DecodingEvent, None, None]:
        """Yield events in the order of the real decoder; see `nad_agents.events`."""
        # 1. the candidates are written
        group = self._written()
        generated = sum(map(len, group.rollouts))
        if self.on_rows_freed is not None:
            self.on_rows_freed(0)
        growth = (CandidateGrowth(r.index, r.text, len(r), r.finish_reason) for r in group.rollouts)
        progress = Progress(max(map(len, group.rollouts)), (), generated, tuple(growth) if self.watch else ())
        if self.on_progress is not None:
            self.on_progress(progress)
        yield progress
        # 2. they are ranked and checked
        selection, following = self._select(group)
        if self.watch:
            yield from following
        # 3. the winner's text; it grows only where the real decoder decides early
        yield WinnerChosen(selection.winner)
        config = self.request.config
        early = config.pruning != "never" and config.keep == 1 and self.verifier is None
        for text in re.findall(r"\s*\S+|\s+$", selection.text) if early else [selection.text] * bool(selection.text):
            self._stop_if_cancelled()
            yield TextDelta(text)
        yield Finished(selection)

    async def aevents(self) -> AsyncGenerator[DecodingEvent, None]:
        """`events`, each made on another thread; leaving the loop early cancels the request."""
        events = self.events()
        try:
            while (event := await asyncio.to_thread(next, events, None)) is not None:
                yield event
        finally:
            self.cancel()

    def _stop_if_cancelled(self) -> None:
        if self._cancelled:
            msg = "the request was cancelled before it finished"
            raise GenerationCancelledError(msg)

    def _written(self) -> RolloutGroup:
        """Return the candidates as rollouts without neurons."""
        if self._group is None:
            self._stop_if_cancelled()
            if isinstance(self.answer, Exception):
                raise self.answer
            rollouts = [self._rollout(i, text) for i, text in enumerate(self.answer.candidates)]
            self._group = RolloutGroup(rollouts, NeuronLayout(0, 0), self.request.text)
        return self._group

    def _rollout(self, index: int, text: str) -> Rollout:
        assert isinstance(self.answer, ScriptedAnswer)
        ids = list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        if self.answer.finish_reason == "stop" and self.tokenizer.eos_token_id is not None:
            ids.append(self.tokenizer.eos_token_id)
        zeros = np.zeros(len(ids), dtype=np.float32)
        return Rollout(
            index=index,
            token_ids=np.asarray(ids, dtype=np.int64),
            text=text,
            neurons=np.empty((len(ids), 0), dtype=np.int32),
            logprobs=zeros + np.float32(_LOGPROB),
            entropies=zeros,
            self_certainties=zeros,
            confidences=zeros,
            finish_reason=self.answer.finish_reason,
        )

    def _select(self, group: RolloutGroup) -> tuple[Selection, list[DecodingEvent]]:
        """Return the selection, and the events that a watching caller gets while it is made."""
        answer = self.answer
        assert isinstance(answer, ScriptedAnswer)
        order, scores = answer.order, answer.score_values
        to_check = order[: self.verification.max_checks] if self.verifier is not None else ()
        told: list[DecodingEvent] = [Ranking(order, scores, to_check)]
        verdicts: dict[int, Verdict] = {}
        winner, verified = order[0], None
        if self.verifier is not None:
            walk = walk_ranking(
                order,
                answer.candidates,
                self.verifier,
                prompt=self.request.text,
                parallel=self.verification.parallel,
                max_checks=self.verification.max_checks,
                check_all=self.verification.check_all,
                max_seconds=self.verification.max_seconds,
                on_failure=self.verification.on_failure,
                on_verdict=lambda candidate, verdict: told.append(Verified(candidate, verdict.to_dict())),
                cancelled=lambda: self._cancelled,
            )
            winner, verified, verdicts = walk.winner, walk.passed, walk.verdicts
        candidates = tuple(
            Candidate(
                index=i,
                rank=order.index(i),
                score=scores[i],
                text=rollout.text,
                tokens=len(rollout),
                agreement=answer.agreement(i),
                mean_logprob=_LOGPROB if len(rollout) else None,
                finish_reason=rollout.finish_reason,
                verdict=verdicts[i].to_dict() if i in verdicts else None,
            )
            for i, rollout in enumerate(group.rollouts)
        )
        selection = Selection(
            text=answer.candidates[winner],
            winner=winner,
            ranking=order,
            candidates=candidates,
            selector=self.selector,
            seed=self.request.sampling.seed or 0,
            similarity_matrix=None if answer.similarity is None else tuple(map(tuple, answer.similarity)),
            usage=Usage(
                prompt_tokens=len(self.request.prompt_ids),
                generated_tokens=sum(map(len, group.rollouts)),
                winner_tokens=len(group.rollouts[winner]),
            ),
            verified=verified,
            model=self.model,
            details=dict(answer.details),
        )
        return selection, told
