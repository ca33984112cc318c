"""Checking candidates in rank order: what a verifier must offer, and the walk down the ranking.

The library runs no code itself. Anything with a ``verify`` method of this shape can judge a candidate: a sandbox
that executes it, a linter, a schema validator, a callable wrapped in a class.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from nad_agents.exceptions import GenerationCancelledError, NADError, NoCandidatePassedError, VerificationError

__all__ = ["Verdict", "Verifier", "WalkResult", "walk_ranking"]


@runtime_checkable
class Verdict(Protocol):
    """What a verifier says of one answer."""

    @property
    def passed(self) -> bool:
        """Whether the answer is accepted."""
        ...

    @property
    def feedback(self) -> str:
        """A bounded report that a person or a model can read; empty when the answer passed."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """The verdict as JSON-serialisable data."""
        ...


@runtime_checkable
class Verifier(Protocol):
    """Judges one answer at a time; must be safe to call from several threads."""

    def verify(self, answer: str, *, prompt: str = "") -> Verdict:
        """Judge an answer.

        Args:
            answer: the candidate's text, prose and code fences included.
            prompt: what the model was asked; examples in it may serve as checks.

        Raises:
            Exception: when the verifier itself cannot work; never because the answer is wrong.
        """
        ...

    def fingerprint(self, answer: str) -> str:
        """A key that is equal for answers which must get the same verdict, so that each is checked once."""
        ...


@dataclass(frozen=True)
class WalkResult:
    """What the walk down a ranking found.

    Attributes:
        winner: the best-ranked candidate that passed; the best-ranked of all when none did.
        passed: whether the winner passed.
        verdicts: what the verifier said, by candidate; a duplicate has the verdict of the candidate it equals.
        checked: candidates that the verifier was asked about, in rank order.
        duplicates: candidate to the better-ranked one with the same fingerprint.
        seconds: wall-clock time.
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
    on_failure: Literal["best_ranked", "error"] = "best_ranked",
    on_verdict: Callable[[int, Verdict], None] | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> WalkResult:
    """Check candidates in rank order and stop at the first that passes.

    With `parallel` checks at a time the result is the same: a candidate wins only when every better-ranked one has
    failed, whichever check ends first. Checks of worse-ranked ones that still run then are not waited for: they end
    by the verifier's own time limit, or with its `close`.

    Args:
        ranking: candidates, best first.
        answers: text of every candidate, by index.
        verifier: judges them.
        prompt: what the model was asked.
        parallel: checks at a time.
        max_checks: ask the verifier at most so often.
        max_seconds: start no check after so many seconds.
        on_failure: what to do when none passes.
        on_verdict: called on this thread with each verdict, in rank order.
        cancelled: whether nobody waits for the result any more; asked before further checks are started.

    Raises:
        NoCandidatePassedError: none passed and `on_failure` is "error".
        VerificationError: the verifier failed; no candidate is blamed for it.
        GenerationCancelledError: it was cancelled.
    """
    started = time.perf_counter()
    verdicts: dict[int, Verdict] = {}
    duplicates: dict[int, int] = {}
    # 1. identical answers are checked once
    first_with: dict[str, int] = {}
    todo = []
    for candidate in ranking:
        same = first_with.setdefault(_ask(verifier.fingerprint, answers[candidate]), candidate)
        if same == candidate:
            todo.append(candidate)
        else:
            duplicates[candidate] = same
    todo = todo[:max_checks]
    # 2. the window of running checks slides down the ranking
    checked: list[int] = []
    winner: int | None = None
    pool = ThreadPoolExecutor(max_workers=parallel, thread_name_prefix="nad-verify")
    running: dict[int, Future[Verdict]] = {}
    waiting = iter(todo)
    try:
        for candidate in todo:
            _stop_if(cancelled())
            while len(running) < parallel and (max_seconds is None or time.perf_counter() - started < max_seconds):
                following = next(waiting, None)
                if following is None:
                    break
                running[following] = pool.submit(_ask, verifier.verify, answers[following], prompt=prompt)
                checked.append(following)
            if candidate not in running:
                break
            verdict = running.pop(candidate).result()
            verdicts[candidate] = verdict
            if on_verdict is not None:
                on_verdict(candidate, verdict)
            if verdict.passed:
                winner = candidate
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


def _stop_if(cancelled: bool) -> None:
    if cancelled:
        msg = "the request was cancelled while its candidates were checked"
        raise GenerationCancelledError(msg)


def _ask(question: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Ask the verifier; whatever goes wrong is its own failure."""
    try:
        return question(*args, **options)
    except NADError:
        raise
    except Exception as error:
        msg = f"the verifier failed: {type(error).__name__}: {_first_line(str(error))}"
        raise VerificationError(msg) from error


def _first_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[0] if lines else "no reason given"
