"""Verification of candidates in rank order: what a verifier must offer, and the walk down the ranking.

The library itself runs no code of a candidate. Any object with the methods of `Verifier` can judge one: a sandbox that
executes it, a linter, a schema validator.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from nad_agents.exceptions import GenerationCancelledError, NADError, NoCandidatePassedError, VerificationError

__all__ = ["Verdict", "Verifier", "WalkResult", "call_verifier", "is_tested_pass", "walk_ranking"]


@runtime_checkable
class Verdict(Protocol):
    """A verifier's judgment of one answer.

    A verdict may have one more attribute, `tested`. False means that nothing was compared with an expected result, so
    that a pass says little about whether the answer is right.
    """

    @property
    def passed(self) -> bool:
        """Whether the answer is accepted."""
        ...

    @property
    def feedback(self) -> str:
        """A report of bounded length for a person or a model to read; empty if the answer passed."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict as JSON-serializable data."""
        ...


@runtime_checkable
class Verifier(Protocol):
    """Judges one answer at a time; its methods must be safe to call from several threads."""

    def verify(self, answer: str, *, prompt: str = "") -> Verdict:
        """Judge an answer.

        Args:
            answer: The candidate's text, including prose and code fences.
            prompt: The user's text; a verifier may use its examples as checks.

        Raises:
            Exception: The verifier itself cannot work; a wrong answer raises nothing.
        """
        ...

    def fingerprint(self, answer: str) -> str:
        """Return a key that is equal for answers with necessarily equal verdicts, of which only one is checked."""
        ...


@dataclass(frozen=True)
class WalkResult:
    """The result of checking candidates down a ranking.

    Attributes:
        winner: The best-ranked candidate that passed; the best-ranked of all if none passed.
        passed: Whether the winner passed.
        verdicts: Verdicts by candidate; a duplicate has the verdict of the candidate that it equals.
        checked: Candidates that the verifier was given, in rank order.
        duplicates: Maps a candidate to the better-ranked candidate with the same fingerprint.
        seconds: Wall-clock time of the walk.
    """

    winner: int
    passed: bool
    verdicts: dict[int, Verdict] = field(default_factory=dict)
    checked: tuple[int, ...] = ()
    duplicates: dict[int, int] = field(default_factory=dict)
    seconds: float = 0.0


def walk_ranking(
    ranking: Sequence[int],
    answers: Sequence[str],
    verifier: Verifier,
    *,
    prompt: str = "",
    parallel: int = 1,
    max_checks: int | None = None,
    max_seconds: float | None = None,
    check_all: bool = False,
    on_failure: Literal["best_ranked", "error"] = "best_ranked",
    on_verdict: Callable[[int, Verdict], None] | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> WalkResult:
    """Check candidates in rank order, and stop at the first that passes unless all are to be checked.

    The result does not depend on `parallel`: a candidate wins only if every better-ranked one has failed, whichever
    check ends first. The walk does not wait for checks of worse-ranked candidates that are still running then; they end
    at the verifier's own time limit.

    Args:
        ranking: Candidates, best first.
        answers: Text of every candidate, by index.
        verifier: Judges the answers.
        prompt: The user's text.
        parallel: Number of checks at a time.
        max_checks: Greatest number of checks; None sets no limit.
        max_seconds: Seconds after which no further check starts; None sets no limit.
        check_all: Whether the checks go on after a candidate has passed.
        on_failure: What to do if no candidate passes: return the best-ranked one, or raise an error.
        on_verdict: Called on this thread with each verdict, in rank order.
        cancelled: Called before further checks start; True ends the walk, as no caller waits for its result any more.

    Raises:
        NoCandidatePassedError: No candidate passed and `on_failure` is "error".
        VerificationError: The verifier failed, which says nothing about the candidates.
        GenerationCancelledError: The walk was cancelled.
    """
    started = time.perf_counter()
    verdicts: dict[int, Verdict] = {}
    duplicates: dict[int, int] = {}
    # 1. identical answers are checked once
    first_with: dict[str, int] = {}
    todo = []
    for candidate in ranking:
        same = first_with.setdefault(call_verifier(verifier.fingerprint, answers[candidate]), candidate)
        if same == candidate:
            todo.append(candidate)
        else:
            duplicates[candidate] = same
    todo = todo[:max_checks]
    # 2. a window of running checks slides down the ranking
    checked: list[int] = []
    winner: int | None = None
    pool = ThreadPoolExecutor(max_workers=parallel, thread_name_prefix="nad-verify")
    running: dict[int, Future[Verdict]] = {}
    waiting = iter(todo)
    try:
        for candidate in todo:
            if cancelled():
                msg = "the request was cancelled while its candidates were checked"
                raise GenerationCancelledError(msg)
            while len(running) < parallel and (max_seconds is None or time.perf_counter() - started < max_seconds):
                following = next(waiting, None)
                if following is None:
                    break
                running[following] = pool.submit(call_verifier, verifier.verify, answers[following], prompt=prompt)
                checked.append(following)
            if candidate not in running:
                break
            verdict = running.pop(candidate).result()
            verdicts[candidate] = verdict
            if on_verdict is not None:
                on_verdict(candidate, verdict)
            winner = candidate if winner is None and verdict.passed else winner
            if winner is not None and not check_all:
                break
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    verdicts.update({copy: verdicts[same] for copy, same in duplicates.items() if same in verdicts})
    if winner is None and on_failure == "error":
        best = verdicts.get(ranking[0])
        reason = f"; the best-ranked failed: {_first_line(best.feedback)}" if best is not None else ""
        msg = f"none of {len(ranking)} candidates passed ({len(checked)} checked){reason}"
        raise NoCandidatePassedError(msg)
    return WalkResult(
        winner=ranking[0] if winner is None else winner,
        passed=winner is not None,
        verdicts=verdicts,
        checked=tuple(checked),
        duplicates=duplicates,
        seconds=time.perf_counter() - started,
    )


def is_tested_pass(verdict: Verdict) -> bool:
    """Return whether an answer passed a check of its results; see `Verdict`."""
    return verdict.passed and bool(getattr(verdict, "tested", True))


def call_verifier(method: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Call a method of a verifier; any exception is a failure of the verifier, not of the candidate.

    Raises:
        VerificationError: The method raised an exception that does not belong to this library.
    """
    try:
        return method(*args, **options)
    except NADError:
        raise
    except Exception as error:
        msg = f"the verifier failed: {type(error).__name__}: {_first_line(str(error))}"
        raise VerificationError(msg) from error


def _first_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[0] if lines else "no reason given"
