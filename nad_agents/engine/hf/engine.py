"""The engine over a Hugging Face causal language model.

transformers prepares what a generation needs (see `nad_agents.engine.hf.generation_setup`); the loop is this module's:

1. prefill the prompt except its last token, once, at batch size 1, in pieces (see `nad_agents.engine.hf.prefill`)
2. expand the cache to N rows and add them to the batch
3. per step: one forward pass for all rows, captured where that is possible (see `nad_agents.engine.hf.captured`), then
   signals, processors and a draw, one for all generations that sample alike (see `nad_agents.engine.hf.decoding_steps`)
4. every step on a CPU, every few steps elsewhere: read which candidates have ended
5. per chunk: turn activations into neuron ids; rows of finished candidates leave the batch

The activation at a position belongs to the token that this position emits. The first decoding step feeds the prompt's
last token, so the first generated token is recorded like every other, and no prompt token is recorded.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import time
import weakref
from collections.abc import Collection
from typing import Any, Literal, cast

import torch
from transformers import Cache, PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from nad_agents.engine.base import Generation, GenerationRequest
from nad_agents.engine.hf.available_memory import available_device_memory
from nad_agents.engine.hf.batch_recorder import BatchRecorder, StepRecorder
from nad_agents.engine.hf.batches import Batches
from nad_agents.engine.hf.captured.compile_option import captured_steps
from nad_agents.engine.hf.captured.steps_of_rows import StepsOfRows
from nad_agents.engine.hf.decoding_steps import DecodingSteps
from nad_agents.engine.hf.generation import HFGeneration
from nad_agents.engine.hf.generation_setup import SetupBuilder
from nad_agents.engine.hf.memory import ModelShape, default_prefix_bytes
from nad_agents.engine.hf.prefill import HFPrefill, piece_size
from nad_agents.engine.hf.prefix.cache import SharedPrefixCache
from nad_agents.engine.hf.prefix.support import sharing_obstacle
from nad_agents.engine.hf.request_checks import RequestMemory, check_fits_context
from nad_agents.exceptions import GenerationError, UnsupportedModelError
from nad_agents.fork import ForkSafeLock
from nad_agents.models.model_checks import check_one_device
from nad_agents.neurons.recording_config import RecordingConfig
from nad_agents.rollouts import NeuronLayout
from nad_agents.selectors.base import Selector
from nad_agents.types import DEFAULT_ROWS

__all__ = ["HFEngine"]

_logger = logging.getLogger(__name__)

_MODEL_LOCKS: weakref.WeakKeyDictionary[PreTrainedModel, ForkSafeLock] = weakref.WeakKeyDictionary()
"""One lock per model: engines that share a model take turns, as each taps the model's layers while it steps."""

_COMPACT_SHARE = 0.25
"""A step ends early once this share of the rows has finished, so that they stop costing time."""

_STEPS_PER_READ = 4
"""Decoding steps on an accelerator after which the host reads which candidates have ended. Reading makes the host wait,
and a candidate that has ended takes part in at most three steps more."""


class HFEngine:
    """A batch of rows over one transformers model; see `nad_agents.engine.base.Engine`.

    Args:
        model: A decoder-only model in eval mode.
        tokenizer: The model's tokenizer.
        name: The name to report; the config's own if empty.
        prefix_bytes: Memory for the keys and values of earlier prompts; None for what `default_prefix_bytes` returns.
        share_prompts: Whether the candidates of a request attend to one copy of its prompt if the model supports it;
            otherwise each candidate has its own copy.
        steps_per_read: Decoding steps after which the host reads which candidates have ended; what they draw after
            their end is discarded. None is 1 on a CPU, where reading costs nothing, and 4 on other devices.
        compile: Whether decoding steps are captured in CUDA graphs. "auto" does so on CUDA where the captured step
            computes what the model computes and is faster; True requires it, False never does it.

    Raises:
        ConfigurationError: The model is spread over several devices, or it is not on CUDA, as captured steps require.
        UnsupportedModelError: The model's steps cannot be captured, and they are required.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        name: str = "",
        prefix_bytes: int | None = 0,
        share_prompts: bool = True,
        steps_per_read: int | None = None,
        compile: Literal["auto"] | bool = "auto",  # noqa: A002 - the name that users know from torch and vLLM
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.name = name or model.config.name_or_path or type(model).__name__
        check_one_device(model, self.name)
        self._device = model.device
        self._steps_per_read = steps_per_read or (1 if self._device.type == "cpu" else _STEPS_PER_READ)
        self._model_lock = _MODEL_LOCKS.setdefault(model, ForkSafeLock())
        with self._model_lock:
            obstacle = sharing_obstacle(model) if share_prompts else "it was not asked for"
        if obstacle:
            _logger.info("every candidate of %s keeps its prompt for itself: %s", self.name, obstacle)
        shape = ModelShape.of(model.config, model.dtype)
        if prefix_bytes is None:
            prefix_bytes = default_prefix_bytes(shape, self.context_length, available_device_memory(self._device))
        self._memory = RequestMemory(shape, self._device, shares_prompt=not obstacle)
        self._batches = Batches(model, prefix_bytes, shares_prompts=not obstacle)
        self._setups = SetupBuilder(model, tokenizer)
        self._recorder = BatchRecorder(model)
        with self._model_lock:
            self._captured = captured_steps(
                model,
                self._forward,
                self._recorder,
                compile=compile,
                name=self.name,
                shares_prompts=not obstacle,
            )
        self._generations: list[HFGeneration] = []
        parameters = inspect.signature(model.forward).parameters
        self._told_of_turns = False
        self._keeps_logits = "logits_to_keep" in parameters
        self._takes_positions = "position_ids" in parameters

    @property
    def context_length(self) -> int | None:
        """Greatest length of prompt and answer together, in tokens; None if the config does not say."""
        length = getattr(self.model.config.get_text_config(decoder=True), "max_position_embeddings", None)
        return int(length) if length else None

    @property
    def records_neurons(self) -> bool:
        """Whether the engine can record neurons at all."""
        return True

    @property
    def rows(self) -> int:
        """Number of live rows in the batch."""
        return self._batches.current.rows

    @property
    def fitting_rows(self) -> int:
        """Greatest number of rows that a batch is to have where the caller does not say, by a GPU's free memory."""
        if self._memory.device.type != "cuda":
            return DEFAULT_ROWS
        widths: list[int] = []
        # a model whose neurons cannot be recorded generates all the same
        with contextlib.suppress(UnsupportedModelError):
            widths = [block.width for block in self._recorder.blocks]
        return self._memory.fitting_rows(widths)

    def check_selector(self, selector: Selector) -> None:
        """Do nothing, as candidates have everything that a selector may read."""

    def layout(self, recording: RecordingConfig) -> NeuronLayout:
        """Return how the recorded neurons are numbered.

        Raises:
            UnsupportedModelError: The model has no feed-forward block of a known kind, or no readable unembedding
                for the attribution score.
            ConfigurationError: The layer range does not fit the model.
        """
        return self._recorder.layout(recording)

    def can_join(self) -> bool:
        """Return whether rows of another prompt can join the batch; the reason why they cannot is logged once."""
        layers = self._batches.current.unmergeable
        if layers and not self._told_of_turns:
            self._told_of_turns = True
            _logger.info("requests to %s take turns: %s cannot hold several prompts", self.name, ", ".join(layers))
        return not layers

    def check(self, request: GenerationRequest) -> None:
        """Check a request without running the model.

        Raises:
            PromptError: The prompt has no tokens, or prompt and answer do not fit the context.
            UnsupportedModelError: See `layout`.
            ConfigurationError: See `layout`; or the candidates do not fit into memory.
        """
        check_fits_context(request, self.context_length, name=self.name)
        self._memory.check(request, self._recorded_widths(request), free_caches=self._free_caches)

    def fitting_token_limit(self, request: GenerationRequest) -> int:
        """Return the largest token limit, up to the request's, whose candidates take half of the available memory.

        Raises:
            UnsupportedModelError: See `layout`.
            ConfigurationError: See `layout`.
        """
        return self._memory.fitting_token_limit(request, self._recorded_widths(request))

    @torch.inference_mode()
    def prefill(self, request: GenerationRequest) -> HFPrefill:
        """Begin to read a prompt, from where it is new to the prefix cache.

        Raises:
            PromptError: See `check`.
            UnsupportedModelError: See `check`.
            ConfigurationError: See `check`; or transformers refuses a generation option.
            GenerationError: Another generation is running and this model's cache cannot hold both.
        """
        self.check(request)
        if self._generations and not self.can_join():
            msg = f"the cache of {self.name} cannot hold rows of several prompts; wait for the running request"
            raise GenerationError(msg)
        # its forward pass must not fill the buffer of an engine that shares the model
        with self._model_lock:
            self._recorder.verify(request.recording)
        started = time.perf_counter()
        prompt = torch.tensor([list(request.prompt_ids)], device=self._device)
        setup = self._setups.build(prompt, request)
        batch = self._batches.for_request(setup.cache)
        if self.rows and batch is not self._batches.current:
            msg = f"the request needs another kind of cache than the running ones of {self.name}; wait for them to end"
            raise GenerationError(msg)
        cache, read = batch.open(setup.cache, request.prompt_ids[:-1])
        return HFPrefill(
            request=request,
            prompt=prompt,
            setup=setup,
            cache=cache,
            read=read,
            piece=piece_size(setup.cache, self.model.config),
            forward=self._read,
            started=started,
        )

    @torch.inference_mode()
    def join(self, prefill: HFPrefill) -> HFGeneration:
        """Add one row per candidate of a prompt that has been read to the batch."""
        if prefill.tokens_left:
            msg = f"{prefill.tokens_left} tokens of the prompt have not been read; call advance() until none is left"
            raise GenerationError(msg)
        request, setup = prefill.request, prefill.setup
        n = request.sampling.n
        self._batches.join(prefill.cache, request.prompt_ids[:-1], n)
        generation = HFGeneration(
            request=request,
            layout=self._recorder.layout(request.recording),
            tokenizer=self.tokenizer,
            processors=setup.processors,
            criteria=setup.criteria,
            sequences=cast("torch.LongTensor", prefill.prompt.repeat(n, 1)),
            waits=self._steps_per_read == 1,
            prefill_seconds=prefill.seconds,
            cached_tokens=prefill.cached_tokens,
        )
        self._generations.append(generation)
        return generation

    def start(self, request: GenerationRequest) -> HFGeneration:
        """Read a prompt whole and add one row per candidate to the batch.

        Raises:
            NADError: See `prefill`.
        """
        prefill = self.prefill(request)
        while prefill.advance():
            pass
        return self.join(prefill)

    @torch.inference_mode()
    def step(self, max_tokens: int) -> None:
        """Advance every row by at most `max_tokens` tokens.

        Returns early when a generation has failed or has no live candidate left, or when a quarter of the rows has
        finished.
        """
        if not self.rows:
            return
        steps = DecodingSteps(self._generations, max_tokens, self._device)
        with self._model_lock:
            # before the recorder taps the model, as a capture must not record into its buffer
            captured = self._prepare_captured(steps)
            with self._recorder.record(self._generations, steps) as recorder:
                self._decode(steps, recorder, captured)
        steps.settle()
        self._compact()

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
        if not self._generations:
            self._recorder.free()

    def _recorded_widths(self, request: GenerationRequest) -> list[int]:
        recorded = self._recorder.recorded_blocks(self._recorder.layout(request.recording))
        return [block.width for block in recorded]

    def check_health(self) -> None:
        """Check that the device still computes; after some errors CUDA fails every call until the process ends.

        Raises:
            GenerationError: The device fails.
        """
        try:
            torch.zeros((), device=self._device).item()
        except RuntimeError as error:
            msg = f"{self._device} does not compute any more, so {self.name} needs a new process: {error}"
            raise GenerationError(msg) from error

    def close(self) -> None:
        """Free the buffers of captured steps; the engine holds nothing outside this process."""
        if self._captured is not None:
            with self._model_lock:
                self._captured.free()

    def reset_after_fork(self) -> None:
        """Drop what the parent's thread was generating; the weights stay.

        Raises:
            GenerationError: The model is on a GPU, which no forked process can use.
        """
        if self._device.type != "cpu":
            msg = (
                f"{self.name} was put on {self._device} before this process was forked, and a forked process cannot "
                "use that device; load the model in the worker itself (gunicorn without --preload), or start "
                "processes by the method 'spawn'"
            )
            raise GenerationError(msg)
        self._batches.clear()
        self._generations = []

    def _read(self, tokens: torch.Tensor, positions: torch.Tensor, cache: Cache) -> None:
        with self._model_lock, self._batches.attention(cache):
            self._forward(tokens, positions, None, cache)
        if isinstance(cache, SharedPrefixCache):
            cache.advance(tokens.shape[1])

    def _free_caches(self) -> None:
        self._batches.prefixes.clear()
        if self._captured is not None:
            with self._model_lock:
                self._captured.free()

    def _prepare_captured(self, steps: DecodingSteps) -> StepsOfRows | None:
        cache = self._batches.shared_cache
        if self._captured is None or cache is None or not cache.rows:
            return None
        return self._captured.prepare(
            cache,
            steps.last_tokens,
            steps=steps.limit,
            left=min(generation.steps_left for generation in self._generations if generation.live),
            records=any(generation.request.recording is not None for generation in self._generations),
        )

    def _decode(self, steps: DecodingSteps, recorder: StepRecorder | None, captured: StepsOfRows | None) -> None:
        rows, batch = self.rows, self._batches.current
        assert batch.cache is not None
        positions, mask = batch.step_inputs()
        while steps.count < steps.limit:
            # 1. one forward pass for all rows
            if captured is not None:
                logits = captured.step(steps.last_tokens, recorder)
            else:
                with batch.attention(batch.cache):
                    logits = self._forward(steps.last_tokens[:, None], positions, mask, batch.cache)
            batch.advance()
            # 2. a token for every row
            steps.add(logits)
            # 3. a full buffer of activations becomes neuron ids
            if recorder is not None:
                recorder.step_done()
            # 4. enough rows have finished
            failed = any(generation.error is not None for generation in self._generations)
            if failed or steps.count % self._steps_per_read == 0 or steps.count == steps.limit:
                steps.read()
                finished = sum(generation.finished_rows for generation in self._generations)
                if finished >= _COMPACT_SHARE * rows or any(one.must_stop for one in self._generations):
                    break
            if captured is None:
                positions, mask = (positions + 1, None) if mask is None else batch.step_inputs()

    def _forward(
        self, tokens: torch.Tensor, positions: torch.Tensor, mask: torch.Tensor | None, cache: Cache
    ) -> torch.Tensor:
        """Return the logits of the last position, float32 [rows, vocabulary]."""
        options: dict[str, Any] = {"logits_to_keep": 1} if self._keeps_logits else {}
        if self._takes_positions:
            options["position_ids"] = positions
        output = self.model(input_ids=tokens, attention_mask=mask, past_key_values=cache, use_cache=True, **options)
        logits: torch.Tensor = output.logits[:, -1].float()
        return logits

    def _compact(self) -> None:
        """Remove the rows that have ended from the batch."""
        keep, at = [], 0
        for generation in self._generations:
            local = generation.compact()
            keep.append(local + at)
            at += generation.rows_before_compaction
        rows = torch.cat(keep) if keep else torch.zeros(0, dtype=torch.long)
        if len(rows) < self.rows:
            self._batches.current.keep(rows)

    def _find(self, generation: Generation) -> HFGeneration:
        for mine in self._generations:
            if mine is generation:
                return mine
        msg = "the generation is not in this engine's batch; it was released already"
        raise GenerationError(msg)
