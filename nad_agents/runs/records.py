"""Convert a problem and its candidates to the header and the arrays of a record, and back.

Header: ``problem`` (id), ``task`` (the problem as the data set has it: prompt, tests, answer), ``prompt`` (what the
model was given: text or messages), ``asked`` (the last user message), ``seed``, ``seconds`` (queued, prefill, decode),
``layout`` (n_layers, d_ff, first_layer), ``candidates`` (text, tokens and finish_reason of each), ``versions``.

Arrays, the candidates one after another: ``token_ids`` int64 [T]; ``logprobs``, ``entropies``, ``self_certainties``,
``confidences`` float32 [T] in nats; and ``neurons/0``, ``neurons/1``, ... int32 [t, k], blocks of successive tokens of
the same sequence. T is the total number of the candidates' tokens. A run recorded without neurons has no such blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nad_agents.rollouts import NeuronLayout, Rollout, RolloutGroup

__all__ = ["SIGNALS", "ProblemRecord", "neuron_blocks", "rebuild_group", "record_header", "token_arrays"]

SIGNALS = ("token_ids", "logprobs", "entropies", "self_certainties", "confidences")
"""Names of the arrays with one number per token."""

BLOCK_TOKENS = 8192
"""Tokens per block of neurons, which bounds the memory of encoding and decoding."""


@dataclass(frozen=True)
class ProblemRecord:
    """One problem with its candidates, as it is written to a run.

    Attributes:
        problem: The problem's id, unique within the run.
        group: The problem's candidates.
        task: The problem as the data set has it, JSON-serializable; scoring reads tests and answers from it.
        prompt: The model's input, as text or messages.
        seed: Seed of this problem's candidates.
        seconds: Time taken by each phase.
        versions: Versions of Python and of the packages that recorded it.
    """

    problem: str
    group: RolloutGroup
    task: Mapping[str, Any] = field(default_factory=dict)
    prompt: Any = ""
    seed: int | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)


def record_header(record: ProblemRecord) -> dict[str, Any]:
    """Return the header of a record."""
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


def token_arrays(group: RolloutGroup) -> dict[str, NDArray[Any]]:
    """Concatenate the candidates' arrays that have one number per token."""
    return {name: np.concatenate([getattr(r, name) for r in group.rollouts]) for name in SIGNALS}


def neuron_blocks(group: RolloutGroup) -> dict[str, NDArray[np.int32]]:
    """Concatenate the candidates' neurons and cut them into blocks of at most `BLOCK_TOKENS` tokens."""
    width = max((r.neurons.shape[1] for r in group.rollouts), default=0)
    if not width:
        return {}
    rows = [np.pad(r.neurons, ((0, 0), (0, width - r.neurons.shape[1])), constant_values=-1) for r in group.rollouts]
    neurons = np.concatenate(rows)
    starts = range(0, max(len(neurons), 1), BLOCK_TOKENS)
    return {f"neurons/{i}": neurons[start : start + BLOCK_TOKENS] for i, start in enumerate(starts)}


def rebuild_group(
    header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], neurons: NDArray[np.int32]
) -> RolloutGroup:
    """Make the candidates again from a record.

    Args:
        header: The record's header.
        arrays: Arrays as `token_arrays` returns them.
        neurons: Int32 [T, k], the neurons of all candidates; k may be 0.
    """
    rollouts, start = [], 0
    for index, candidate in enumerate(header["candidates"]):
        part = slice(start, start + candidate["tokens"])
        signals: dict[str, Any] = {name: arrays[name][part] for name in SIGNALS}
        rollouts.append(
            Rollout(
                index=index,
                text=candidate["text"],
                finish_reason=candidate["finish_reason"],
                neurons=neurons[part],
                **signals,
            )
        )
        start = part.stop
    return RolloutGroup(rollouts, NeuronLayout(**header["layout"]), header["asked"])
