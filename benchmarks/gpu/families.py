"""Check the neurons that are recorded from tiny models of every family against the written formulas."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator

import torch
from transformers import PreTrainedModel

from benchmarks.gpu.cells import attempt, failure
from nad_agents import SamplingConfig
from nad_agents.engine.base import GenerationRequest
from nad_agents.engine.hf.engine import HFEngine
from nad_agents.neurons.architectures import decoder_layers
from nad_agents.neurons.recording_config import RecordingConfig
from tests.feed_forward_formulas import assert_is_top, formula_layers
from tests.model_families import FAMILIES, family_model
from tests.tiny_models import byte_tokenizer


def check_families(device: torch.device, limit: int | None, end: float) -> Iterator[tuple[str, dict[str, str]]]:
    """Decode with a tiny model of each family on the device, and compare with the formulas on the CPU.

    Yields:
        The family, and for each score "exact", what is wrong, or "not run".
    """
    for family in FAMILIES[:limit]:
        scores = ("activation", "attribution") if family.attribution else ("activation",)
        found = dict.fromkeys(scores, "not run: no time left")
        if time.perf_counter() < end:
            try:
                original = family_model(family.name)
                engine = HFEngine(copy.deepcopy(original).to(device), byte_tokenizer())
                for score in scores:
                    found[score] = attempt(lambda e=engine, m=original, s=score: check_family(e, m, s))
            except Exception as error:  # noqa: BLE001 - one family says nothing about the others
                found = dict.fromkeys(scores, failure(error))
        yield family.name, found


def check_family(engine: HFEngine, original: PreTrainedModel, score: str) -> str:
    prompt, recording = byte_tokenizer()("def add(a, b):")["input_ids"], RecordingConfig(score, 20, 12)
    sampling = SamplingConfig(n=2, max_new_tokens=12, temperature=1.0, top_k=0, top_p=1.0, seed=11)
    generation = engine.start(GenerationRequest(prompt, sampling, recording))
    while generation.live:
        engine.step(8)
    engine.release(generation)
    unembedding, layout = original.get_output_embeddings().weight, engine.layout(recording)
    for rollout in generation.group().rollouts:
        ids = prompt + rollout.token_ids.tolist()
        layers = formula_layers(original, decoder_layers(original)[1], ids)
        values = [layer.scores(score, unembedding[[*ids[1:], 0]]) for layer in layers]
        for t, neurons in enumerate(rollout.neurons):
            at = len(prompt) - 1 + t
            scored = [(layer.numbers[at], value[at]) for layer, value in zip(layers, values, strict=True)]
            assert_is_top(neurons, scored, layout.d_ff, 20, 12)
    return "exact"
