"""The runs that are timed, and how two of them are compared."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel

from benchmarks.gpu.shapes import Shape
from nad_agents import NADConfig, NeuronAgreementDecoder, SamplingConfig, testing
from nad_agents.engine.base import GenerationRequest
from nad_agents.engine.hf.engine import HFEngine
from nad_agents.models import LoadedModel
from nad_agents.neurons.recording_config import RecordingConfig
from tests.tiny_models import byte_tokenizer


@dataclass
class Bench:
    """The runs that are timed, on one model.

    Attributes:
        shape: What is run.
        model: The model.
        pairs: Number of pairs of a ratio, if there is time.
        end: When `time.perf_counter` has this value, a row ends with the pairs that it has.
        engine: The engine.
    """

    shape: Shape
    model: PreTrainedModel
    pairs: int
    end: float = math.inf
    engine: HFEngine = field(init=False)

    def __post_init__(self) -> None:
        self.engine = HFEngine(self.model, byte_tokenizer())
        self.loaded = LoadedModel(self.model, testing.byte_tokenizer(), "random", "folder", Path())

    @property
    def device(self) -> torch.device:
        return self.model.device

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(self, run: Callable[[], object]) -> float:
        self.wait()
        started = time.perf_counter()
        run()
        self.wait()
        return time.perf_counter() - started

    def prompt(self, length: int) -> list[int]:
        return [1 + i % 200 for i in range(length)]

    def sampling(self, n: int, tokens: int) -> SamplingConfig:
        return SamplingConfig(n=n, max_new_tokens=tokens, temperature=0.8, top_k=50, top_p=0.95, seed=1)

    def candidates(self, n: int, recording: RecordingConfig | None, *, prompt: int = 16) -> None:
        request = GenerationRequest(self.prompt(prompt), self.sampling(n, self.shape.tokens), recording)
        generation = self.engine.start(request)
        while generation.live:
            self.engine.step(32)
        generation.group()
        self.engine.release(generation)

    def generate(self, n: int, prompt: int, **options: Any) -> None:
        ids = torch.tensor([self.prompt(prompt)], device=self.device)
        options |= {"do_sample": True, "temperature": 0.8, "top_k": 50, "top_p": 0.95, "num_return_sequences": n}
        with torch.inference_mode():
            self.model.generate(ids, max_new_tokens=self.shape.tokens, **options)

    @torch.inference_mode()
    def forwards(self, n: int, steps: int, prompt: int = 16) -> None:
        """Run the model alone as often as a loop over the same tokens would."""
        cache = DynamicCache(config=self.model.config)
        ids = torch.tensor([self.prompt(prompt)] * n, device=self.device)
        self.model(ids[:, :-1], past_key_values=cache, logits_to_keep=1)
        for _ in range(steps):
            self.model(ids[:, -1:], past_key_values=cache, logits_to_keep=1)

    def many(self, n: int, tokens: int, prompts: int, *, pruning: str = "never", max_rows: int | str = "auto") -> int:
        """Answer many prompts that wait at the same time, and return the number of tokens that were generated."""
        config = NADConfig(pruning=pruning, selector="knn")
        decoder = NeuronAgreementDecoder(self.loaded, config=config, max_rows=max_rows)
        texts = [f"{i} " * 8 for i in range(prompts)]
        selections = decoder.decode_many(texts, sampling=self.sampling(n, tokens), raw=True)
        decoder.close()
        return sum(candidate.tokens for selection in selections for candidate in selection.candidates)

    def ratio(self, run: Callable[[], object], reference: Callable[[], object]) -> str:
        """Time both in pairs, of which the first warms up; it counts if there is no time for another."""
        pairs: list[tuple[float, float]] = []
        for i in range(self.pairs + 1):
            started = time.perf_counter()
            if i % 2:
                other = self.seconds(reference)
                pairs.append((self.seconds(run), other))
            else:
                mine = self.seconds(run)
                pairs.append((mine, self.seconds(reference)))
            now = time.perf_counter()
            if now + (now - started) > self.end:
                break
        ratios = sorted(mine / other for mine, other in pairs[1:] or pairs)
        return f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
