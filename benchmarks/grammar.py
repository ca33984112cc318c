"""Measure what a grammar costs per token: steps with and without it, taken in turn in one process, and its parts.

    python benchmarks/grammar.py [--model ID ...] [--rows 8 16] [--rounds 3] [--steps 32]

Step times are between calls of a logits processor that only reads the clock, over steps in which all rows are alive.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from llguidance import LLMatcher
from transformers import LogitsProcessor

from nad_agents import NADConfig, NeuronAgreementDecoder, SamplingConfig, load_model
from nad_agents.chat.output_spec import OutputSpec
from nad_agents.chat.tool_formats import FORMATS
from nad_agents.constrained.decoding import (
    end_tokens,
    grammar_tokenizer,
    make_processors,
    vocabulary_size,
)
from nad_agents.constrained.grammar import Grammar
from nad_agents.constrained.logits_processor import GrammarLogitsProcessor, mask_executor

PROMPT = "List five people of the history of computing, with the city they worked in and what they are known for."
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "city": {"type": "string"},
        "born": {"type": "integer"},
        "known_for": {"type": "array", "items": {"type": "string"}, "minItems": 1},
    },
    "required": ["name", "city", "born", "known_for"],
    "additionalProperties": False,
}
SCHEMA = {
    "type": "object",
    "title": "People",
    "properties": {"people": {"type": "array", "items": PERSON, "minItems": 5}},
    "required": ["people"],
}
LIMIT = 220


class StepClock(LogitsProcessor):
    """Notes the time of each step and its number of rows."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, int]] = []

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        self.seen.append((time.perf_counter(), len(input_ids)))
        return scores

    def steps(self, rows: int) -> list[float]:
        """Return the seconds between steps in which all rows were alive, leaving out the first ones as warm-up."""
        pairs = zip(self.seen[2:], self.seen[3:], strict=False)
        return [after - before for (before, a), (after, b) in pairs if a == b == rows]


@contextmanager
def timed_grammar() -> Iterator[list[tuple[float, int]]]:
    """Collect seconds and rows of every call of the grammar's logits processor."""
    found: list[tuple[float, int]] = []
    original = GrammarLogitsProcessor.__call__

    def call(self: GrammarLogitsProcessor, input_ids: Any, scores: Any) -> Any:
        started = time.perf_counter()
        result = original(self, input_ids, scores)
        found.append((time.perf_counter() - started, len(input_ids)))
        return result

    GrammarLogitsProcessor.__call__ = call
    try:
        yield found
    finally:
        GrammarLogitsProcessor.__call__ = original


def people_grammar() -> Grammar:
    """Return the grammar that is measured."""
    form = {"type": "json_schema", "json_schema": {"name": "people", "schema": SCHEMA}}
    return OutputSpec.from_arguments({"response_format": form}).grammar(FORMATS["generic"], repr)


def run(decoder: NeuronAgreementDecoder, processors: Callable[[], list[Any]], rows: int, tokens: int, seed: int) -> int:
    """Generate and return the number of tokens of all candidates."""
    sampling = SamplingConfig(n=rows, max_new_tokens=tokens, seed=seed)
    group = decoder.sample(PROMPT, sampling=sampling, config=NADConfig(), logits_processors=processors)
    return sum(len(rollout.token_ids) for rollout in group.rollouts)


class NoEndToken(LogitsProcessor):
    """Forbids the end tokens, so that unconstrained rows stay alive as long as constrained ones do."""

    def __init__(self, end_tokens: list[int]) -> None:
        self._end_tokens = end_tokens

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        del input_ids
        scores[:, self._end_tokens] = -torch.inf
        return scores


def paired(decoder: NeuronAgreementDecoder, rows: int, rounds: int, steps: int) -> None:
    """Time steps with and without the grammar in alternating order, and print a row."""
    made = make_processors(people_grammar(), decoder.loaded, LIMIT)
    ends = end_tokens(decoder.loaded)
    times: dict[str, list[float]] = {"free": [], "held": []}
    ratios = []
    with timed_grammar() as calls:
        for number in range(rounds):
            medians = {}
            # the order alternates, so that a slowdown of the machine affects both
            for kind in ("free", "held") if number % 2 == 0 else ("held", "free"):
                clock = StepClock()
                before = [NoEndToken(ends)] if kind == "free" else made()
                # the grammar is compiled for a higher limit, because at the start of an answer the limit is far away
                run(decoder, lambda first=before, last=clock: [*first, last], rows, steps, number)
                found = clock.steps(rows)
                times[kind] += found
                medians[kind] = statistics.median(found)
            ratios.append(medians["held"] / medians["free"])
    free, held = (statistics.median(times[kind]) for kind in ("free", "held"))
    spent = statistics.median([seconds for seconds, alive in calls if alive == rows])
    print(
        f"| {decoder.loaded.name} | {rows} | {free * 1e3:.1f} ms | {held * 1e3:.1f} ms "
        f"| {statistics.median(ratios):.3f}x ({min(ratios):.3f} to {max(ratios):.3f}) | {spent * 1e3:.2f} ms "
        f"| {spent * 1e6 / rows:.0f} us |",
        flush=True,
    )


def whole_answers(decoder: NeuronAgreementDecoder, rows: int) -> None:
    """Print the grammar's share of the time of whole answers, including their completion within the token limit."""
    made = make_processors(people_grammar(), decoder.loaded, LIMIT)
    with timed_grammar() as calls:
        started = time.perf_counter()
        tokens = run(decoder, made, rows, LIMIT, seed=1)
        seconds = time.perf_counter() - started
    spent = sum(took for took, _ in calls)
    print(
        f"| {decoder.loaded.name} | {rows} | {tokens} | {seconds:.2f} s | {spent:.2f} s | {spent / seconds:.1%} "
        f"| {spent / tokens * 1e6:.0f} us | {max(took for took, _ in calls) * 1e3:.1f} ms |",
        flush=True,
    )


def parts(decoder: NeuronAgreementDecoder) -> None:
    """Print the times of compiling, and of masks with and without threads."""
    loaded = decoder.loaded
    started = time.perf_counter()
    tokenizer = grammar_tokenizer(loaded)
    reading = time.perf_counter() - started
    started = time.perf_counter()
    make_processors(people_grammar(), loaded, LIMIT)
    first = time.perf_counter() - started
    again = statistics.median(timeit(lambda: make_processors(people_grammar(), loaded, LIMIT)) for _ in range(20))
    matcher = LLMatcher(tokenizer, people_grammar().lark)
    text = '{"people": [{"name": "Ada Lovelace", "city": "Lon'
    assert matcher.consume_tokens(loaded.tokenizer(text, add_special_tokens=False)["input_ids"])
    for rows in (1, 8, 16):
        copies = [(matcher.deep_copy(), i) for i in range(rows)]
        words = np.zeros((rows, (vocabulary_size(loaded) + 31) // 32), np.int32)

        def one_by_one(copies: list[Any] = copies, words: Any = words) -> None:
            for copied, i in copies:
                copied.unsafe_compute_mask_ptr(words[i].ctypes.data, words.strides[0])

        def together(copies: list[Any] = copies, words: Any = words) -> None:
            mask_executor().unsafe_compute_mask_ptr(copies, words.ctypes.data, words.strides[0], len(words))

        alone, joint = (statistics.median(timeit(kind) for _ in range(50)) for kind in (one_by_one, together))
        compiling = f"{reading * 1e3:.0f} ms | {first * 1e3:.1f} ms | {again * 1e3:.1f} ms" if rows == 1 else " | | "
        print(f"| {loaded.name} | {compiling} | {rows} | {alone * 1e6:.0f} us | {joint * 1e6:.0f} us |", flush=True)


def timeit(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", default=["HuggingFaceTB/SmolLM2-135M-Instruct"])
    parser.add_argument("--rows", nargs="+", type=int, default=[8, 16])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=32)
    options = parser.parse_args()
    decoders = [NeuronAgreementDecoder(load_model(name, dtype="float32")) for name in options.model]
    print("| model | tokenizer, once | first grammar | same again | rows | masks one by one | together |")
    print("|---|---|---|---|---|---|---|")
    for decoder in decoders:
        parts(decoder)
    print("\n| model | rows | step without | step with | ratio | grammar per step | per row |")
    print("|---|---|---|---|---|---|---|")
    for decoder in decoders:
        for rows in options.rows:
            paired(decoder, rows, options.rounds, options.steps)
    print("\n| model | rows | tokens | answer | grammar | share | per token | longest step |")
    print("|---|---|---|---|---|---|---|---|")
    for decoder in decoders:
        whole_answers(decoder, options.rows[0])


if __name__ == "__main__":
    main()
