"""The engine over a Hugging Face causal language model.

transformers prepares everything that a generation needs (`generate` with a `custom_generate` that only takes the
parts): generation config, logits processors and warpers, stopping criteria and the cache. The loop is ours:

1. prefill the prompt but for its last token, once, at batch 1
2. expand the cache to N rows and join them to the batch
3. per step: one forward for all rows; signals, processors and a draw per generation
4. per chunk: activations to neuron ids; rows of finished candidates leave the batch

The activation at a position belongs to the token that the position emits. The first decoding step feeds the prompt's
last token, so that the first generated token is recorded like every other, and no prompt token is.
"""

from __future__ import annotations

import copy
import inspect
import threading
import time
import weakref
from collections.abc import Collection
from functools import lru_cache, partial
from typing import Any, NamedTuple, cast

import torch
from transformers import Cache, GenerationConfig, LogitsProcessorList, PreTrainedModel, StoppingCriteriaList
from transformers.generation.stopping_criteria import StopStringCriteria
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from nad_agents.engine.base import Generation, GenerationRequest
from nad_agents.engine.hf.generation import HFGeneration
from nad_agents.engine.hf.kv_cache import BatchCache, PrefixCache
from nad_agents.engine.hf.memory import (
    ModelShape,
    available_device_memory,
    available_host_memory,
    check_memory,
    memory_need,
    return_free_memory,
)
from nad_agents.engine.hf.sampling import TopLogits
from nad_agents.engine.hf.signals import CONFIDENCE_TOP, token_signals
from nad_agents.exceptions import ConfigurationError, GenerationError, PromptError
from nad_agents.neurons.architectures import FeedForward, Unembedding, find_feed_forwards, find_unembedding
from nad_agents.neurons.recorder import BUFFER_BYTES, ActivationTap, RecordingConfig, activated_neurons, neuron_layout
from nad_agents.rollouts import NeuronLayout
from nad_agents.types import SamplingConfig

__all__ = ["HFEngine"]

_MODEL_LOCKS: weakref.WeakKeyDictionary[PreTrainedModel, threading.Lock] = weakref.WeakKeyDictionary()
"""Engines that share a model take turns: what one records of its layers must not be another's."""

_STOP_CRITERIA = 8
"""As many are kept; each holds some numbers for every token of the vocabulary."""

_COMPACT_SHARE = 0.25
"""A step ends early once this share of the rows has finished, so that they stop costing time."""


class _Prepared(NamedTuple):
    """What `generate` prepared for a custom loop."""

    processors: LogitsProcessorList
    criteria: StoppingCriteriaList
    config: GenerationConfig
    cache: Cache


class HFEngine:
    """A batch of rows over one transformers model.

    Args:
        model: a decoder-only model in eval mode.
        tokenizer: its tokenizer.
        name: a name to report.
        prefix_bytes: memory for the keys and values of earlier prompts; see `PrefixCache`.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        name: str = "",
        prefix_bytes: int = 0,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.name = name or model.config.name_or_path or type(model).__name__
        self._device = model.device
        self._shape = ModelShape.of(model.config, model.dtype)
        self._turn = _MODEL_LOCKS.setdefault(model, threading.Lock())
        self._batch = BatchCache(self._device)
        self._prefixes = PrefixCache(prefix_bytes)
        self._generations: list[HFGeneration] = []
        # made once for the same strings: it reads the vocabulary, half a second for one of 150,000 tokens
        self._stop_criterion = lru_cache(_STOP_CRITERIA)(lambda stop: StopStringCriteria(tokenizer, list(stop)))
        parameters = inspect.signature(model.forward).parameters
        self._keeps_logits = "logits_to_keep" in parameters
        self._takes_positions = "position_ids" in parameters
        self._blocks: tuple[FeedForward, ...] | None = None
        self._unembedding: Unembedding | None = None
        self._tap: ActivationTap | None = None

    @property
    def context_length(self) -> int | None:
        """Longest prompt plus answer, as the config says."""
        length = getattr(self.model.config.get_text_config(decoder=True), "max_position_embeddings", None)
        return int(length) if length else None

    @property
    def rows(self) -> int:
        """Live rows in the batch."""
        return len(self._batch.padding)

    @property
    def blocks(self) -> tuple[FeedForward, ...]:
        """The model's feed-forward blocks; found at the first use."""
        if self._blocks is None:
            self._blocks = find_feed_forwards(self.model)
        return self._blocks

    def layout(self, recording: RecordingConfig) -> NeuronLayout:
        """How the recorded neurons are numbered.

        Raises:
            UnsupportedModelError: the model has no feed-forward block of a known kind, or no readable unembedding
                where attribution needs it.
            ConfigurationError: the layer range does not fit the model.
        """
        layout = neuron_layout(self.blocks, recording)
        if recording.score == "attribution":
            if self._unembedding is None:
                self._unembedding = find_unembedding(self.model)
            self.blocks[layout.first_layer].down_weight()
        return layout

    def can_join(self) -> bool:
        """Whether the rows in the batch keep plain keys and values, so that rows of another prompt fit beside them."""
        return self._batch.mergeable

    def check(self, request: GenerationRequest) -> None:
        """Check a request without running the model.

        Raises:
            PromptError: no tokens, or prompt and answer do not fit the context.
            UnsupportedModelError: see `layout`.
            ConfigurationError: see `layout`; or the candidates do not fit into memory.
        """
        prompt, limit = len(request.prompt_ids), self.context_length
        if prompt == 0:
            msg = "the prompt is empty; give at least one token of text"
            raise PromptError(msg)
        if limit is not None and prompt >= limit:
            msg = f"the prompt has {prompt} tokens and {self.name} takes {limit} with the answer; shorten it"
            raise PromptError(msg)
        if limit is not None and prompt + request.sampling.max_new_tokens > limit:
            msg = (
                f"prompt ({prompt} tokens) and max_new_tokens={request.sampling.max_new_tokens} exceed the "
                f"{limit} tokens of {self.name}; set max_new_tokens to at most {limit - prompt}"
            )
            raise PromptError(msg)
        self._check_memory(request, None if request.recording is None else self.layout(request.recording))

    def _check_memory(self, request: GenerationRequest, layout: NeuronLayout | None) -> None:
        recorded = () if layout is None else self.blocks[layout.first_layer : layout.first_layer + layout.n_layers]
        sampling, shared = request.sampling, self._device.type != "cuda"
        need = partial(
            memory_need,
            self._shape,
            sampling,
            len(request.prompt_ids),
            recording=request.recording,
            widths=[block.d_ff for block in recorded],
            chunk_size=request.chunk_size,
            on_heap=self._device.type == "cpu",
        )

        def check() -> None:
            device = available_device_memory(self._device)
            host = device if shared else available_host_memory()
            check_memory(need, sampling.n, sampling.max_new_tokens, device=device, host=host, shared=shared)

        try:
            check()
        except ConfigurationError:
            # what earlier requests left counts as taken until it is handed back
            self._prefixes.clear()
            return_free_memory()
            check()

    @torch.inference_mode()
    def start(self, request: GenerationRequest) -> HFGeneration:
        """Prefill the prompt once and add N rows to the batch.

        Raises:
            PromptError: see `check`.
            ConfigurationError: transformers refuses a generation option.
            GenerationError: another generation runs and this model's cache cannot hold both.
        """
        self.check(request)
        if self._generations and not self.can_join():
            msg = f"the cache of {self.name} cannot hold rows of several prompts; wait for the running request"
            raise GenerationError(msg)
        started = time.perf_counter()
        prompt = torch.tensor([list(request.prompt_ids)], device=self._device)
        prepared = self._prepare(prompt, request)
        # 1. prefill all but the last token at batch 1
        length = prompt.shape[1] - 1
        read = request.prompt_ids[:length]
        known = self._prefixes.fill(prepared.cache, read)
        if known < length:
            positions = torch.arange(known, length, device=self._device)[None]
            with self._turn:
                self._forward(prompt[:, known:-1], positions, None, prepared.cache)
        self._prefixes.keep(prepared.cache, read)
        # 2. one row per candidate
        n = request.sampling.n
        prepared.cache.batch_repeat_interleave(n)
        self._batch.add(prepared.cache, length, n)
        generation = HFGeneration(
            request=request,
            layout=NeuronLayout(0, 0) if request.recording is None else self.layout(request.recording),
            tokenizer=self.tokenizer,
            processors=prepared.processors,
            criteria=prepared.criteria,
            sequences=cast("torch.LongTensor", prompt.repeat(n, 1)),
            prefill_seconds=time.perf_counter() - started,
        )
        self._generations.append(generation)
        return generation

    @torch.inference_mode()
    def step(self, max_tokens: int) -> None:
        """Advance every row by at most `max_tokens` tokens.

        Returns early when a generation failed or has no live candidate left, or when a quarter of the rows finished.
        """
        if not self.rows:
            return
        recording = {g: g.request.recording for g in self._generations if g.request.recording is not None}
        rows = self.rows
        if not recording:
            with self._turn:
                self._steps(max_tokens, None, max_tokens)
        else:
            layers = (
                min(g.layout.first_layer for g in recording),
                max(g.layout.first_layer + g.layout.n_layers for g in recording),
            )
            dtype, limit = self._activation_dtype(), max(BUFFER_BYTES[config.score] for config in recording.values())
            if self._tap is None:
                self._tap = ActivationTap(self.model, self.blocks)
            with self._turn, self._tap as tap:
                room = tap.open(rows, max_tokens, layers, dtype=dtype, device=self._device, limit=limit)
                self._steps(max_tokens, tap, room)
        for generation in self._generations:
            generation.settle()
        self._compact()

    def _activation_dtype(self) -> torch.dtype:
        """Dtype of the neurons' activations; quantised projections take float32."""
        weight = getattr(self.blocks[0].down, "weight", None)
        return weight.dtype if isinstance(weight, torch.Tensor) and weight.is_floating_point() else torch.float32

    @torch.inference_mode()
    def drop(self, generation: Generation, candidates: Collection[int]) -> None:
        """Prune live candidates of a generation."""
        self._find(generation).prune(candidates)
        self._compact()

    @torch.inference_mode()
    def release(self, generation: Generation) -> None:
        """Take a generation out of the batch."""
        found = self._find(generation)
        found.prune(found.live)
        self._compact()
        self._generations.remove(found)
        if self._tap is not None and not self._generations:
            self._tap.free()

    def _steps(self, max_tokens: int, tap: ActivationTap | None, room: int) -> None:
        rows = self.rows
        for _ in range(max_tokens):
            # 1. one forward for all rows
            tokens = torch.cat([g.sequences[:, -1] for g in self._generations])[:, None]
            positions, mask = self._batch.step_inputs()
            assert self._batch.cache is not None
            logits = self._forward(tokens, positions, mask, self._batch.cache)
            self._batch.length += 1
            likeliest = self._likeliest(logits)
            signals = token_signals(logits, likeliest.scores)
            # 2. a token for every row, generation by generation
            at = 0
            for generation in self._generations:
                part = slice(at, at := at + len(generation.live))
                generation.accept(logits, likeliest, signals, part)
            # 3. a full buffer becomes neuron ids
            if tap is not None and tap.next_step() == room:
                self._reduce(tap)
            finished = sum(g.finished_rows for g in self._generations)
            if finished >= _COMPACT_SHARE * rows or any(g.must_stop for g in self._generations):
                break
        if tap is not None:
            self._reduce(tap)

    def _likeliest(self, logits: torch.Tensor) -> TopLogits:
        """As many of the likeliest tokens as signals and draws look at, found once for all rows."""
        width = max(CONFIDENCE_TOP, *(generation.width for generation in self._generations))
        return TopLogits(*logits.topk(min(width, logits.shape[-1])))

    def _reduce(self, tap: ActivationTap) -> None:
        """Turn what the tap holds into neuron ids of each generation."""
        layers = tap.take()
        steps = len(layers[0])
        if not steps:
            return
        first = tap.first_layer
        at = 0
        for generation in self._generations:
            part = slice(at, at := at + len(generation.live))
            recording, layout = generation.request.recording, generation.layout
            if recording is None or part.start == part.stop:
                continue
            own = slice(layout.first_layer - first, layout.first_layer - first + layout.n_layers)
            ids = activated_neurons(
                [layer[:, part] for layer in layers[own]],
                generation.recent_tokens(steps),
                recording,
                layout,
                self.blocks[layout.first_layer : layout.first_layer + layout.n_layers],
                unembedding=self._unembedding,
            )
            generation.add_neurons(ids)

    def _compact(self) -> None:
        """Let rows that ended leave the batch."""
        keep, at = [], 0
        for generation in self._generations:
            local = generation.compact()
            keep.append(local + at)
            at += generation.rows_before_compaction
        rows = torch.cat(keep) if keep else torch.zeros(0, dtype=torch.long)
        if len(rows) < self.rows:
            self._batch.keep(rows.to(self._device))

    def _find(self, generation: Generation) -> HFGeneration:
        for mine in self._generations:
            if mine is generation:
                return mine
        msg = "the generation is not in this engine's batch; it was released already"
        raise GenerationError(msg)

    def _forward(
        self, tokens: torch.Tensor, positions: torch.Tensor, mask: torch.Tensor | None, cache: Cache
    ) -> torch.Tensor:
        """Logits of the last position, float32 [rows, vocabulary]."""
        options: dict[str, Any] = {"logits_to_keep": 1} if self._keeps_logits else {}
        if self._takes_positions:
            options["position_ids"] = positions
        output = self.model(input_ids=tokens, attention_mask=mask, past_key_values=cache, use_cache=True, **options)
        logits: torch.Tensor = output.logits[:, -1].float()
        return logits

    def _prepare(self, prompt: torch.Tensor, request: GenerationRequest) -> _Prepared:
        """Let transformers build config, processors, criteria and cache, and take them."""

        def take(_model: Any, _ids: torch.Tensor, **parts: Any) -> Any:
            return _Prepared(
                parts["logits_processor"], parts["stopping_criteria"], parts["generation_config"],
                parts["past_key_values"],
            )  # fmt: skip

        try:
            generate: Any = self.model.generate
            prepared: _Prepared = generate(
                prompt,
                custom_generate=take,
                generation_config=self._generation_config(request.sampling),
                logits_processor=LogitsProcessorList(request.logits_processors),
                # given as a criterion: `generate` mislays the tokenizer that stop_strings need beside a custom loop
                stopping_criteria=StoppingCriteriaList(
                    [self._stop_criterion(request.sampling.stop)] if request.sampling.stop else []
                ),
            )
        except (TypeError, ValueError) as error:
            msg = f"transformers refuses the generation options: {error}"
            raise ConfigurationError(msg) from error
        return prepared

    def _generation_config(self, sampling: SamplingConfig) -> GenerationConfig:
        config = copy.deepcopy(self.model.generation_config)
        greedy = sampling.temperature == 0
        options: dict[str, Any] = {
            "do_sample": not greedy,
            "temperature": 1.0 if greedy else sampling.temperature,
            "top_p": 1.0 if greedy else sampling.top_p,
            "top_k": 50 if greedy else sampling.top_k,
            "min_p": None if greedy else sampling.min_p,
            "repetition_penalty": sampling.repetition_penalty,
            "max_new_tokens": sampling.max_new_tokens,
            "max_length": None,
            "stop_strings": None,
            "num_return_sequences": 1,
            "num_beams": 1,
            **sampling.generation,
        }
        unknown = [name for name in options if not hasattr(config, name)]
        if unknown:
            msg = f"unknown generation option {unknown[0]!r}; see transformers.GenerationConfig for the valid ones"
            raise ConfigurationError(msg)
        for name, value in options.items():
            setattr(config, name, value)
        return config
