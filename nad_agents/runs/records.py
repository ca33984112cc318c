"""One problem's record: what its head and its arrays mean.

Head: ``problem`` (id), ``task`` (the problem as the data set has it: prompt, tests, answer), ``prompt`` (what the model
was asked: text or messages), ``asked`` (the last user message), ``seed``, ``seconds`` (queued, prefill, decode),
``layout`` (n_layers, d_ff, first_layer), ``candidates`` (of each: text, tokens, finish_reason), ``versions``.

Arrays, the candidates one after the other: ``token_ids`` int64 [T]; ``logprobs``, ``entropies``, ``self_certainties``,
``confidences`` float32 [T] in nats; and ``neurons/0``, ``neurons/1``, ... int32 [t, k], blocks of successive tokens of
the same sequence. T is the sum of the candidates' tokens. A run without recorder has no neurons.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nad_agents.rollouts import NeuronLayout, Rollout, RolloutGroup

__all__ = ["SIGNALS", "ProblemRecord", "arrays_of", "group_of", "head_of", "neuron_blocks"]

SIGNALS = ("token_ids", "logprobs", "entropies", "self_certainties", "confidences")
"""The arrays with one number per token."""

BLOCK_TOKENS = 8192
"""Tokens per block of neurons, which bounds the memory of encoding and decoding."""


@dataclass(frozen=True)
class ProblemRecord:
    """One problem with its candidates, as it is written.

    Attributes:
        problem: its id, unique within the run.
        group: its candidates.
        task: the problem as the data set has it, JSON-serialisable; scoring reads tests and answers from it.
        prompt: what the model was asked: text, or messages.
        seed: of this problem's candidates.
        seconds: per phase.
        versions: of what recorded it.
    """

    problem: str
    group: RolloutGroup
    task: Mapping[str, Any] = field(default_factory=dict)
    prompt: Any = ""
    seed: int | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)


def head_of(record: ProblemRecord) -> dict[str, Any]:
    """The record's head."""
    group = record.group
    return {
        "problem": record.problem,
        "task": dict(record.task),
        "prompt": record.prompt,
        "asked": group.prompt,
        "seed": record.seed,
        "seconds": dict(record.seconds),
        "layout": asdict(group.layout),
        "candidates": [{"text": r.text, "tokens": len(r), "finish_reason": r.finish_reason} for r in group.rollouts],
        "versions": dict(record.versions),
    }


def arrays_of(group: RolloutGroup) -> dict[str, NDArray[Any]]:
    """The arrays with one number per token."""
    return {name: np.concatenate([getattr(r, name) for r in group.rollouts]) for name in SIGNALS}


def neuron_blocks(group: RolloutGroup) -> dict[str, NDArray[np.int32]]:
    """The neurons of all candidates, cut into blocks."""
    width = max((r.neurons.shape[1] for r in group.rollouts), default=0)
    if not width:
        return {}
    rows = [np.pad(r.neurons, ((0, 0), (0, width - r.neurons.shape[1])), constant_values=-1) for r in group.rollouts]
    neurons = np.concatenate(rows)
    starts = range(0, max(len(neurons), 1), BLOCK_TOKENS)
    return {f"neurons/{i}": neurons[start : start + BLOCK_TOKENS] for i, start in enumerate(starts)}


def group_of(head: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], neurons: NDArray[np.int32]) -> RolloutGroup:
    """The candidates again.

    Args:
        head: the record's head.
        arrays: see `arrays_of`.
        neurons: int32 [T, k] of all candidates; k may be 0.
    """
    rollouts, start = [], 0
    for index, candidate in enumerate(head["candidates"]):
        part = slice(start, start + candidate["tokens"])
        rollouts.append(
            Rollout(
                index=index,
                text=candidate["text"],
                finish_reason=candidate["finish_reason"],
                neurons=neurons[part],
                **{name: arrays[name][part] for name in SIGNALS},
            )
        )
        start = part.stop
    return RolloutGroup(rollouts, NeuronLayout(**head["layout"]), head["asked"])
