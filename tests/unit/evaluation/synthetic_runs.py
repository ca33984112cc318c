"""Runs made without a model: right candidates share neurons, wrong ones less, longer answers activate more."""

import numpy as np

from nad_agents.evaluation.verdicts import ProblemVerdicts, append_verdicts
from nad_agents.rollouts import NeuronLayout, Rollout, RolloutGroup
from nad_agents.runs import ProblemRecord, RunManifest, RunWriter

LAYOUT = NeuronLayout(n_layers=6, d_ff=200)


def candidate(rng, index, *, right, topic, top_k=20):
    """One candidate: tokens drawn around the topic's neurons, the closer the better."""
    tokens = int(rng.integers(40, 150))
    spread = 60 if right else 220
    centre = topic if right else topic + rng.normal(0, 60)
    drawn = np.round(centre + spread * rng.standard_normal((tokens, 4 * top_k)))
    ids = np.mod(drawn, LAYOUT.n_neurons).astype(np.int32)
    neurons = np.full((tokens, top_k), -1, dtype=np.int32)
    for row, taken in zip(neurons, ids, strict=True):
        distinct = rng.permutation(np.unique(taken))[:top_k]
        row[: len(distinct)] = distinct
    entropies = rng.gamma(2.0, 0.2 if right else 0.3, tokens).astype(np.float32)
    return Rollout(
        index=index,
        token_ids=np.concatenate([np.arange(5), rng.integers(5, 500, tokens - 5)]).astype(np.int64),
        text=f"candidate {index}",
        neurons=neurons,
        logprobs=-entropies,
        entropies=entropies,
        self_certainties=(3 - entropies).astype(np.float32),
        confidences=(9 - entropies).astype(np.float32),
        finish_reason="length" if tokens > 140 else "stop",
    )


def problem(seed, *, n=8, share=None):
    """A group and whether its candidates are right."""
    rng = np.random.default_rng(seed)
    correct = rng.random(n) < (rng.uniform(0, 1) if share is None else share)
    topic = float(rng.integers(0, LAYOUT.n_neurons))
    group = RolloutGroup(
        [candidate(rng, i, right=bool(right), topic=topic) for i, right in enumerate(correct)], LAYOUT, f"prompt {seed}"
    )
    return group, correct


def write_run(folder, *, problems=12, n=8, kind="code", observed=True, share=None):
    """A recorded and scored run; of observed programs, right ones do the same and wrong ones differ.

    `share` is the share of right candidates, 0 or 1 for all of one kind.
    """
    names = tuple(f"made/{i}" for i in range(problems))
    manifest = RunManifest(
        created="2026-01-01T00:00:00+00:00",
        task={"file": "made.jsonl", "sha256": "0"},
        problems=names,
        model={"name": "made", "dtype": "float32"},
        sampling={"n": n, "seed": 0},
        config={"top_k_neurons": 20},
    )
    with RunWriter(folder, manifest) as writer:
        for seed, name in enumerate(names):
            group, correct = problem(seed, n=n, share=share)
            writer.append(ProblemRecord(name, group, task={"kind": kind, "answer": "4"}, seconds={"decode": 1.5}))
            examples = tuple(bool(c) or bool(seed % 2) for c in correct) if seed % 3 else None
            answers = None if kind == "code" else tuple("4" if c else "5" for c in correct)
            # right candidates do the same, and each wrong one something else
            rows = tuple((0 if c else 1 + i,) for i, c in enumerate(correct))
            outcomes = rows if kind == "code" and observed else None
            verdict = ProblemVerdicts(name, tuple(map(bool, correct)), examples, ("",) * n, answers, "made", outcomes)
            append_verdicts(folder, verdict)
    return folder
