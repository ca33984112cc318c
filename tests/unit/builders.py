"""Synthetic rollouts for tests: small enough to compute by hand, and random ones for properties."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from nad_agents.rollouts import NeuronLayout, Rollout, RolloutGroup
from nad_agents.selectors import Selector, get_selector

LAYOUT = NeuronLayout(n_layers=4, d_ff=25)


def make_rollout(
    neurons: Sequence[Iterable[int]],
    *,
    tokens: Sequence[int] | None = None,
    text: str = "",
    logprobs: Sequence[float] | float = -1.0,
    entropies: Sequence[float] | float = 1.0,
    self_certainties: Sequence[float] | float = 1.0,
    confidences: Sequence[float] | float = 1.0,
    finish_reason: str = "stop",
    index: int = 0,
) -> Rollout:
    """A rollout of ``len(neurons)`` tokens; a ragged list of neurons is padded with -1."""
    rows = [list(row) for row in neurons]
    n = len(rows)
    width = max([len(row) for row in rows], default=0)
    padded = np.full((n, width), -1, dtype=np.int32)
    for target, row in zip(padded, rows, strict=True):
        target[: len(row)] = row

    def signal(values):
        return np.broadcast_to(np.asarray(values, dtype=np.float32), (n,)).copy()

    return Rollout(
        index=index,
        token_ids=np.arange(n) if tokens is None else np.asarray(tokens, dtype=np.int64),
        text=text,
        neurons=padded,
        logprobs=signal(logprobs),
        entropies=signal(entropies),
        self_certainties=signal(self_certainties),
        confidences=signal(confidences),
        finish_reason=finish_reason,
    )


def make_group(rollouts: Iterable[Rollout], *, layout: NeuronLayout = LAYOUT, prompt: str = "") -> RolloutGroup:
    """A group of these rollouts, numbered in the order given."""
    return RolloutGroup([replace(r, index=i) for i, r in enumerate(rollouts)], layout, prompt)


def group_of_sets(*sets: Iterable[int], layout: NeuronLayout = LAYOUT) -> RolloutGroup:
    """Candidates of one token each (token id = position) with these activated sets."""
    return make_group((make_rollout([s], tokens=[i]) for i, s in enumerate(sets)), layout=layout)


@dataclass(frozen=True)
class SeenOutcome:
    """What a program did, given as a word; ``crash`` is a crash."""

    text: str

    @property
    def crashed(self) -> bool:
        return self.text == "crash"

    def matches(self, other: SeenOutcome) -> bool:
        return self.text == other.text


@dataclass(frozen=True)
class SeenBehaviour:
    inputs: Sequence[str]
    outcomes: Sequence[Sequence[SeenOutcome]]


class WordObserver:
    """An observer for which the words of an answer are the outcomes of its program; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Sequence[str], str]] = []

    def observe(self, answers: Sequence[str], *, prompt: str = "", propose: Any = None) -> SeenBehaviour:
        """Run the answers; on a proposed input, a number, the program gives the character at that place of its text."""
        self.asked.append((answers, prompt))
        if propose is not None:
            places = list(propose(prompt, {"place": {"type": "integer"}}))
            seen = [[SeenOutcome(answer[place]) for place in places] for answer in answers]
            return SeenBehaviour([f"f({place})" for place in places], seen)
        words = [answer.split() for answer in answers]
        width = max(map(len, words))
        outcomes = [[SeenOutcome(word) for word in [*row, *["crash"] * width][:width]] for row in words]
        return SeenBehaviour([f"f({i})" for i in range(width)], outcomes)


@dataclass(frozen=True)
class SeenAssertions:
    assertions: Sequence[str]
    passed: Sequence[Sequence[bool]]


class WordAssertions:
    """A runner of assertions: an answer passes an assertion if it has its word."""

    def __init__(self, *words: str) -> None:
        self.words = words or ("4", "5", "answer")

    def check(self, answers: Sequence[str], *, prompt: str = "") -> SeenAssertions:
        return SeenAssertions(self.words, [[word in answer.split() for word in self.words] for answer in answers])


class LengthJudge:
    """A judge for which an answer is a tenth better for every character."""

    def __init__(self) -> None:
        self.pairs: list[tuple[str, str]] = []
        self.asked: list[tuple[str, list[str]]] = []

    def compare(self, task: str, pairs: Sequence[tuple[str, str]]) -> list[float]:
        self.pairs += pairs
        return [max(-1.0, min(1.0, (len(first) - len(second)) / 10)) for first, second in pairs]

    def p_true(self, task: str, answers: Sequence[str]) -> list[float]:
        self.asked.append((task, list(answers)))
        return [min(1.0, len(answer) / 10) for answer in answers]


def make_by_name(name: str) -> Selector:
    """A selector with what it cannot do without."""
    runners: dict[str, object] = {"behaviour": WordObserver(), "behaviour_groups": WordObserver()}
    runners |= {"codet": WordAssertions(), "b4": WordAssertions()}
    judges = {"judge": LengthJudge()} if name in ("self_verify", "p_true") else {}
    return get_selector(name, **({"runner": runners[name]} if name in runners else judges))


def permuted(group: RolloutGroup, order: Sequence[int]) -> RolloutGroup:
    """The same candidates, candidate ``order[i]`` at position i."""
    return make_group((group.rollouts[i] for i in order), layout=group.layout, prompt=group.prompt)


_signals = st.one_of(st.sampled_from([0.0, 0.5, 1.0, 2.0]), st.floats(0, 20, width=32), st.just(float("nan")))


@st.composite
def rollouts(draw: st.DrawFn, *, max_tokens: int = 8, nan: bool = True) -> Rollout:
    """Any rollout: empty ones, NaN signals, padding, ties and repeated content included."""
    n = draw(st.integers(0, max_tokens))
    values = st.lists(_signals if nan else st.floats(0, 20, width=32), min_size=n, max_size=n)
    neuron = st.integers(-1, LAYOUT.n_neurons - 1) if draw(st.booleans()) else st.integers(0, 9)
    token = st.lists(neuron, min_size=5, max_size=5, unique=True)
    return make_rollout(
        draw(st.lists(token, min_size=n, max_size=n)),
        tokens=draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)),
        text=draw(st.sampled_from(["", "4", "the answer is 4", r"\boxed{4}", r"so \boxed{5}", "5"])),
        logprobs=[-v for v in draw(values)],
        entropies=draw(values),
        self_certainties=draw(values),
        confidences=draw(values),
        finish_reason=draw(st.sampled_from(["stop", "length"])),
    )


@st.composite
def groups(draw: st.DrawFn, *, min_size: int = 1, max_size: int = 7, nan: bool = True) -> RolloutGroup:
    """Any group; now and then with candidates that occur twice."""
    some = draw(st.lists(rollouts(nan=nan), min_size=min_size, max_size=max_size))
    again = draw(st.lists(st.sampled_from(some), max_size=2)) if some else []
    return make_group([*some, *again], prompt=draw(st.sampled_from(["", "What is 2 + 2?"])))
