"""`NeuronAgreementDecoder`: sample N candidates, rank them by neuron agreement, verify down the ranking.

prompt -> tokens -> engine (prefill once, N rows, chunks) -> selector -> ranking -> verifier -> Selection

The calls other than `submit` are in `nad_agents.base_decoder`. `submit` checks its options, in
`nad_agents.request_options`, and builds a request of each prompt, in `nad_agents.request_builder`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from nad_agents.base_decoder import BaseDecoder
from nad_agents.engine.base import GenerationRequest
from nad_agents.engine.loading import load_engine, with_adapter
from nad_agents.engine.scheduler import Scheduler
from nad_agents.events import Progress
from nad_agents.exceptions import ConfigurationError
from nad_agents.models import DEFAULT_MODEL, LoadedModel
from nad_agents.pending import PendingRequest
from nad_agents.prompt import Prompt
from nad_agents.request_builder import RequestBuilder, recording_config
from nad_agents.request_options import RequestOptions
from nad_agents.selection import check_configuration
from nad_agents.types import (
    NOT_GIVEN,
    EngineName,
    NADConfig,
    NotGiven,
    SamplingConfig,
    VerificationConfig,
)
from nad_agents.verification import Verifier

__all__ = ["NeuronAgreementDecoder"]


class NeuronAgreementDecoder(BaseDecoder):
    """Best-of-N over a local model; safe to share between threads, whose requests then share batches.

    Every call takes the same keywords, which `submit` describes; what a call leaves out is the decoder's own.

    Args:
        model: A Hugging Face Hub id, a local folder, a GGUF file, or, with engine "hf", a model that `load_model`
            returned. Weights are loaded at once.
        adapter: A LoRA adapter that PEFT saved, a folder or a hub id; None runs the model as it is. With a model that
            `load_model` returned, the adapter stays beside the weights, which several decoders then share. For the
            engines "hf" and "vllm"; see also `with_adapter`.
        sampling: How candidates are sampled.
        config: Options for recording, comparing and pruning candidates.
        verifier: Judges answers in rank order; None trusts the ranking.
        verification: How candidates are checked in rank order.
        device: "auto", or a torch device.
        dtype: "auto", or the name of a torch dtype.
        max_rows: Greatest number of candidates in one batch, over all requests. "auto" is 128, or on a GPU as many as
            take half of the memory that is free once the model is loaded, at most 2,048.
        share_batches: False runs one request at a time, which makes a seeded result independent of other callers
            down to the last bit.
        prefix_cache_mb: Memory in MiB for the keys and values of earlier prompts, so that a conversation's next turn
            is read from where it is new. None makes room for four prompts of 8,192 tokens, within an eighth of the
            memory that is free beside the weights. 0 keeps nothing, which makes a seeded result independent of earlier
            prompts down to the last bit. Only for engine "hf".
        engine: What runs the model: "hf" is transformers in this process, "vllm" is vLLM in processes of its own, and
            "openai" is a server with OpenAI's protocol, whose model is called `model`. A server shows no neurons, so
            only selectors that need none work with it.
        engine_options: Further options of the engine. "hf" has ``compile``: "auto", the default, captures decoding
            steps in CUDA graphs where that is exact and faster, True requires it, and False never does it. For "vllm"
            those of `vllm.EngineArgs`, such as ``{"max_model_len": 4096, "tensor_parallel_size": 2}``; for "openai" see
            `nad_agents.engine.openai.start.connect_openai`, such as ``{"base_url": "http://localhost:11434/v1"}``. With
            a `base_url`, "vllm" is a ``vllm serve`` that was started with ``VLLM_PLUGINS=nad_agents``.

    Attributes:
        loaded: The model with its tokenizer.
        engine: The engine that runs the model.

    Raises:
        ModelLoadError: The model cannot be loaded.
        ConfigurationError: A parameter cannot work.
        MissingDependencyError: The engine's package is not installed.
    """

    def __init__(
        self,
        model: str | Path | LoadedModel = DEFAULT_MODEL,
        *,
        adapter: str | Path | None = None,
        sampling: SamplingConfig | None = None,
        config: NADConfig | None = None,
        verifier: Verifier | None = None,
        verification: VerificationConfig | None = None,
        device: str = "auto",
        dtype: str | torch.dtype = "auto",
        max_rows: int | Literal["auto"] = "auto",
        share_batches: bool = True,
        prefix_cache_mb: int | None = None,
        engine: EngineName = "hf",
        engine_options: Mapping[str, Any] | None = None,
    ) -> None:
        self.sampling = sampling or SamplingConfig()
        self.config = config or NADConfig()
        self.verifier = verifier
        self.verification = verification or VerificationConfig()
        check_configuration(self.sampling, self.config)
        if prefix_cache_mb is not None and prefix_cache_mb < 0:
            raise ConfigurationError(f"prefix_cache_mb is {prefix_cache_mb}; give 0 or more")
        self._max_rows, self._share_batches, self._engine_options = max_rows, share_batches, engine_options or {}
        self._prefix_bytes = None if prefix_cache_mb is None else prefix_cache_mb * 2**20
        self.loaded, self.engine = load_engine(
            engine,
            model,
            adapter=adapter,
            device=device,
            dtype=dtype,
            max_rows=max_rows,
            prefix_bytes=self._prefix_bytes,
            options=self._engine_options,
        )
        self._scheduler = self._make_scheduler()

    def with_adapter(self, adapter: str | Path) -> NeuronAgreementDecoder:
        """Return a decoder of the same model with a LoRA adapter, which shares the weights with this one.

        With engine "vllm" both also share batches, and are closed together; vLLM needs the engine options
        `enable_lora`, `max_loras` and `max_lora_rank`.

        Args:
            adapter: A LoRA adapter that PEFT saved: a folder or a hub id.

        Raises:
            ConfigurationError: The model has an adapter already, int8 weights that `dtype="int8"` made, or an engine
                without room for the adapter.
            ModelLoadError: The adapter does not exist, or it does not fit the model.
            UnsupportedModelError: The adapter is not a LoRA adapter.
        """
        other = copy.copy(self)
        other.loaded, other.engine = with_adapter(
            self.loaded, self.engine, adapter, prefix_bytes=self._prefix_bytes, options=self._engine_options
        )
        if other.engine is not self.engine:
            other._scheduler = other._make_scheduler()
        return other

    @property
    def max_rows(self) -> int:
        """Greatest number of candidates in one batch."""
        return self._scheduler.max_rows

    @property
    def steps(self) -> int:
        """Number of times that the batch was advanced, by a chunk or less."""
        return self._scheduler.steps

    def fitting_token_limit(self, prompt_ids: Sequence[int], *, sampling: SamplingConfig, config: NADConfig) -> int:
        """Return a token limit with which a request is not refused for lack of memory.

        Args:
            prompt_ids: The prompt's tokens.
            sampling: How candidates are sampled; its token limit is the largest that is returned.
            config: Options for recording.

        Returns:
            The largest limit whose candidates take half of the memory that is available now; 0 where the prompt alone
            takes more.

        Raises:
            UnsupportedModelError: The model has no neurons that can be recorded.
            ConfigurationError: The layers of `config` do not fit the model.
        """
        n = config.wave_size(sampling)
        request = GenerationRequest(
            prompt_ids,
            sampling.model_copy(update={"n": n, "seed": sampling.seed or 0}),
            recording=recording_config(config, self.engine),
            chunk_size=config.chunk_size,
        )
        return self.engine.fitting_token_limit(request)

    def check_health(self) -> None:
        """Check that further requests can work; a decoder that fails this has to be constructed in a new process.

        Raises:
            GenerationError: The engine, its thread or its device does not work any more.
        """
        self._scheduler.check_health()

    def close(self) -> None:
        """Cancel every request, and free what the engine holds outside this process, such as vLLM's workers."""
        self._scheduler.stop()
        self.engine.close()

    @property
    def prompt_tokens_left(self) -> int:
        """Number of tokens that are still to be read of the prompt that is being read; 0 if none is."""
        return self._scheduler.prompt_tokens_left

    def submit(
        self,
        prompts: Sequence[Prompt],
        *,
        sampling: SamplingConfig | None = None,
        config: NADConfig | None = None,
        verifier: Verifier | NotGiven | None = NOT_GIVEN,
        verification: VerificationConfig | None = None,
        raw: bool = False,
        tools: Sequence[Mapping[str, Any]] | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        logits_processors: Callable[[], Sequence[Any]] | None = None,
        visible_tokens: Collection[int] = (),
        parse_special_tokens: bool = False,
        timeout: float | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        on_rows_freed: Callable[[int], None] | None = None,
        streaming: bool = False,
        watch: bool = False,
        first_prompt_index: int = 0,
    ) -> list[PendingRequest]:
        """Queue prompts and return at once.

        Candidate c of prompt i draws from the random stream of (seed, i, c), so a batch of one prompt gives what a
        single call gives.

        Args:
            prompts: Each is text or chat messages, as in `decode`.
            sampling: How candidates are sampled; None takes the decoder's.
            config: Options for recording and comparing; None takes the decoder's.
            verifier: Judges answers in rank order. None trusts the ranking; left out, it is the decoder's.
            verification: How candidates are checked in rank order; None takes the decoder's.
            raw: Whether text is continued as it is, without the chat template.
            tools: Tools in OpenAI's form, for the chat template.
            chat_template_kwargs: Further variables of the chat template.
            logits_processors: Makes further logits processors; called anew for each prompt and each wave.
            visible_tokens: Special tokens that stay in the text because the caller parses them.
            parse_special_tokens: Whether the text of a special token in a message becomes that token; see
                `nad_agents.prompt.encode_prompt`.
            timeout: Seconds from now until a request is cancelled with GenerationTimeoutError; None sets no limit.
            on_progress: Called on the engine's thread as candidates grow; must return quickly.
            on_rows_freed: Called there with the number of a prompt's candidates that have yet to end, whenever it
                falls; unlike `on_progress` it does not shorten the engine's steps.
            streaming: Whether events are collected for `PendingRequest.events`.
            watch: Whether events follow every candidate, which costs decoding each one's text every few tokens.
            first_prompt_index: Index of the first prompt, if the prompts are part of a longer list.

        Raises:
            NADError: Whatever `decode` raises before it generates; nothing is queued then.
        """
        options = RequestOptions(
            sampling=sampling or self.sampling,
            config=config or self.config,
            verifier=self.verifier if verifier is NOT_GIVEN else verifier,
            verification=verification or self.verification,
            raw=raw,
            tools=tuple(tools or ()),
            chat_template_kwargs=chat_template_kwargs,
            logits_processors=logits_processors,
            visible_tokens=frozenset(visible_tokens),
            parse_special_tokens=parse_special_tokens,
            timeout=timeout,
            on_progress=on_progress,
            on_rows_freed=on_rows_freed,
            streaming=streaming,
            watch=watch,
        )
        options.check(self.engine)
        builder = RequestBuilder(options.with_seed(), self.loaded, self.engine, self._scheduler.submit)
        built = [builder.build(prompt, i) for i, prompt in enumerate(prompts, first_prompt_index)]
        # all of them enter the queue, or none
        self._scheduler.submit([request.scheduled for request in built])
        for request in built:
            if request.later_waves is not None:
                request.later_waves.start()
        return [request.pending for request in built]

    def _make_scheduler(self) -> Scheduler:
        rows = self.engine.fitting_rows if self._max_rows == "auto" else self._max_rows
        return Scheduler(self.engine, max_rows=rows, share_batches=self._share_batches)
