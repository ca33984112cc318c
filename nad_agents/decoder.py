"""`NeuronAgreementDecoder`: sample N candidates, rank them by neuron agreement, verify down the ranking.

prompt -> tokens -> engine (prefill once, N rows, chunks) -> selector -> ranking -> verifier -> Selection
"""

from __future__ import annotations

import copy
import secrets
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch

from nad_agents.engine.base import GenerationRequest
from nad_agents.engine.loading import load_engine, with_adapter
from nad_agents.engine.scheduled_request import Cancellation, ScheduledRequest
from nad_agents.engine.scheduler import Scheduler
from nad_agents.event_queue import EventQueue
from nad_agents.events import DecodingEvent, Progress
from nad_agents.exceptions import ConfigurationError
from nad_agents.models import DEFAULT_MODEL, LoadedModel
from nad_agents.neurons.activated_sets import ComparisonConfig
from nad_agents.neurons.recording_config import RecordingConfig
from nad_agents.observer import RequestObserver
from nad_agents.pending import PendingRequest, submit_in_thread
from nad_agents.prompt import Prompt, encode_prompt, last_user_text
from nad_agents.pruning import pruning_policy
from nad_agents.rollouts import RolloutGroup
from nad_agents.selection import SelectionPlan, check_configuration, make_selector
from nad_agents.selectors.base import Selector
from nad_agents.stopping import KeptScores, KeptVerdicts, StoppingRule, UntilDecided, UntilPassed
from nad_agents.types import (
    NOT_GIVEN,
    EngineName,
    NADConfig,
    NotGiven,
    SamplingConfig,
    Selection,
    VerificationConfig,
)
from nad_agents.verification import Verifier
from nad_agents.waves import WavesUntilEnough

__all__ = ["NeuronAgreementDecoder"]


class NeuronAgreementDecoder:
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
        engine_options: Further options of the engine. For "vllm" those of `vllm.EngineArgs`, such as
            ``{"max_model_len": 4096, "tensor_parallel_size": 2}``; for "openai" see
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
        self.loaded, self.engine = load_engine(
            engine,
            model,
            adapter=adapter,
            device=device,
            dtype=dtype,
            max_rows=max_rows,
            prefix_bytes=None if prefix_cache_mb is None else prefix_cache_mb * 2**20,
            options=engine_options or {},
        )
        self._max_rows, self._prefix_cache_mb = max_rows, prefix_cache_mb
        rows = self.engine.fitting_rows if max_rows == "auto" else max_rows
        self._scheduler = Scheduler(self.engine, max_rows=rows, share_batches=share_batches)

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
        if isinstance(self.loaded, LoadedModel):
            return NeuronAgreementDecoder(
                self.loaded,
                adapter=adapter,
                sampling=self.sampling,
                config=self.config,
                verifier=self.verifier,
                verification=self.verification,
                max_rows=self._max_rows,
                share_batches=self._scheduler.share_batches,
                prefix_cache_mb=self._prefix_cache_mb,
            )
        other = copy.copy(self)
        other.loaded = with_adapter(self.engine, adapter)
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
            recording=self._recording(config),
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

    def decode(
        self,
        prompt: Prompt,
        *,
        sampling: SamplingConfig | None = None,
        config: NADConfig | None = None,
        verifier: Verifier | NotGiven | None = NOT_GIVEN,
        verification: VerificationConfig | None = None,
        raw: bool = False,
        tools: Sequence[Mapping[str, Any]] | None = None,
        template_options: Mapping[str, Any] | None = None,
        logits_processors: Callable[[], Sequence[Any]] | None = None,
        visible_tokens: Collection[int] = (),
        parse_special_tokens: bool = False,
        timeout: float | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        on_rows_freed: Callable[[int], None] | None = None,
    ) -> Selection:
        """Answer one prompt, which is text or chat messages, and return the winner with its evidence.

        Text becomes a user message if the model has a chat template. The keywords are those of `submit`.

        Raises:
            PromptError: The prompt is empty, too long, or refused by the chat template.
            ConfigurationError: Parameters do not go together, or the candidates do not fit into memory.
            UnsupportedModelError: The model has no neurons that can be recorded.
            GenerationError: The model failed.
            GenerationTimeoutError: `timeout` seconds have passed.
            NoCandidatePassedError: No candidate passed, and the verification config asks for an error.
            LowConfidenceError: The answer's confidence is below the minimum, and the config asks for an error.
            VerificationError: The verifier failed.
        """
        (pending,) = self.submit(
            [prompt],
            sampling=sampling,
            config=config,
            verifier=verifier,
            verification=verification,
            raw=raw,
            tools=tools,
            template_options=template_options,
            logits_processors=logits_processors,
            visible_tokens=visible_tokens,
            parse_special_tokens=parse_special_tokens,
            timeout=timeout,
            on_progress=on_progress,
            on_rows_freed=on_rows_freed,
        )
        return pending.result()

    def decode_many(
        self,
        prompts: Sequence[Prompt],
        *,
        sampling: SamplingConfig | None = None,
        config: NADConfig | None = None,
        verifier: Verifier | NotGiven | None = NOT_GIVEN,
        verification: VerificationConfig | None = None,
        raw: bool = False,
        tools: Sequence[Mapping[str, Any]] | None = None,
        template_options: Mapping[str, Any] | None = None,
        logits_processors: Callable[[], Sequence[Any]] | None = None,
        visible_tokens: Collection[int] = (),
        parse_special_tokens: bool = False,
        timeout: float | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        on_rows_freed: Callable[[int], None] | None = None,
    ) -> list[Selection]:
        """Answer several prompts in one batch; an error with one of them cancels the others.

        The keywords are those of `submit` and hold for every prompt.

        Raises:
            NADError: See `decode`.
        """
        pending = self.submit(
            prompts,
            sampling=sampling,
            config=config,
            verifier=verifier,
            verification=verification,
            raw=raw,
            tools=tools,
            template_options=template_options,
            logits_processors=logits_processors,
            visible_tokens=visible_tokens,
            parse_special_tokens=parse_special_tokens,
            timeout=timeout,
            on_progress=on_progress,
            on_rows_freed=on_rows_freed,
        )
        try:
            return [request.result() for request in pending]
        except BaseException:
            for request in pending:
                request.cancel()
            raise

    def sample(
        self,
        prompt: Prompt,
        *,
        sampling: SamplingConfig | None = None,
        config: NADConfig | None = None,
        raw: bool = False,
        tools: Sequence[Mapping[str, Any]] | None = None,
        template_options: Mapping[str, Any] | None = None,
        logits_processors: Callable[[], Sequence[Any]] | None = None,
        visible_tokens: Collection[int] = (),
        parse_special_tokens: bool = False,
        timeout: float | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        on_rows_freed: Callable[[int], None] | None = None,
    ) -> RolloutGroup:
        """Sample the candidates that `decode` would rank, without selecting, to rank or keep them elsewhere.

        The keywords are those of `submit`.

        Raises:
            NADError: See `decode`.
        """
        (pending,) = self.submit(
            [prompt],
            sampling=sampling,
            config=config,
            raw=raw,
            tools=tools,
            template_options=template_options,
            logits_processors=logits_processors,
            visible_tokens=visible_tokens,
            parse_special_tokens=parse_special_tokens,
            timeout=timeout,
            on_progress=on_progress,
            on_rows_freed=on_rows_freed,
        )
        return pending.outcome().group

    async def adecode(
        self,
        prompt: Prompt,
        *,
        sampling: SamplingConfig | None = None,
        config: NADConfig | None = None,
        verifier: Verifier | NotGiven | None = NOT_GIVEN,
        verification: VerificationConfig | None = None,
        raw: bool = False,
        tools: Sequence[Mapping[str, Any]] | None = None,
        template_options: Mapping[str, Any] | None = None,
        logits_processors: Callable[[], Sequence[Any]] | None = None,
        visible_tokens: Collection[int] = (),
        parse_special_tokens: bool = False,
        timeout: float | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        on_rows_freed: Callable[[int], None] | None = None,
    ) -> Selection:
        """Do what `decode` does without blocking the event loop; cancelling the task cancels the request."""
        pending = await submit_in_thread(
            lambda: self.submit(
                [prompt],
                sampling=sampling,
                config=config,
                verifier=verifier,
                verification=verification,
                raw=raw,
                tools=tools,
                template_options=template_options,
                logits_processors=logits_processors,
                visible_tokens=visible_tokens,
                parse_special_tokens=parse_special_tokens,
                timeout=timeout,
                on_progress=on_progress,
                on_rows_freed=on_rows_freed,
            )[0]
        )
        return await pending.aresult()

    def stream(
        self,
        prompt: Prompt,
        *,
        sampling: SamplingConfig | None = None,
        config: NADConfig | None = None,
        verifier: Verifier | NotGiven | None = NOT_GIVEN,
        verification: VerificationConfig | None = None,
        raw: bool = False,
        tools: Sequence[Mapping[str, Any]] | None = None,
        template_options: Mapping[str, Any] | None = None,
        logits_processors: Callable[[], Sequence[Any]] | None = None,
        visible_tokens: Collection[int] = (),
        parse_special_tokens: bool = False,
        timeout: float | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        on_rows_freed: Callable[[int], None] | None = None,
        watch: bool = False,
    ) -> Iterator[DecodingEvent]:
        """Answer one prompt and yield what happens meanwhile; leaving the loop early cancels the request.

        The answer's text comes after the selection. With `keep=1` and no verifier it streams token by token from the
        moment when pruning has left one candidate: with `pruning="first_chunk"` after the first chunk. The keywords
        are those of `submit`.

        Yields:
            Progress, then WinnerChosen, TextDelta, and Finished last. With `watch` also what happens to every
            candidate: its text in `Progress.growth`, Compared and Pruned at the ends of chunks, and Ranking and each
            Verified before the winner; see `nad_agents.events`.

        Raises:
            NADError: See `decode`.
        """
        (pending,) = self.submit(
            [prompt],
            sampling=sampling,
            config=config,
            verifier=verifier,
            verification=verification,
            raw=raw,
            tools=tools,
            template_options=template_options,
            logits_processors=logits_processors,
            visible_tokens=visible_tokens,
            parse_special_tokens=parse_special_tokens,
            timeout=timeout,
            on_progress=on_progress,
            on_rows_freed=on_rows_freed,
            streaming=True,
            watch=watch,
        )
        yield from pending.events()

    async def astream(
        self,
        prompt: Prompt,
        *,
        sampling: SamplingConfig | None = None,
        config: NADConfig | None = None,
        verifier: Verifier | NotGiven | None = NOT_GIVEN,
        verification: VerificationConfig | None = None,
        raw: bool = False,
        tools: Sequence[Mapping[str, Any]] | None = None,
        template_options: Mapping[str, Any] | None = None,
        logits_processors: Callable[[], Sequence[Any]] | None = None,
        visible_tokens: Collection[int] = (),
        parse_special_tokens: bool = False,
        timeout: float | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        on_rows_freed: Callable[[int], None] | None = None,
        watch: bool = False,
    ) -> AsyncIterator[DecodingEvent]:
        """Do what `stream` does without blocking the event loop."""
        pending = await submit_in_thread(
            lambda: self.submit(
                [prompt],
                sampling=sampling,
                config=config,
                verifier=verifier,
                verification=verification,
                raw=raw,
                tools=tools,
                template_options=template_options,
                logits_processors=logits_processors,
                visible_tokens=visible_tokens,
                parse_special_tokens=parse_special_tokens,
                timeout=timeout,
                on_progress=on_progress,
                on_rows_freed=on_rows_freed,
                streaming=True,
                watch=watch,
            )[0]
        )
        async with aclosing(pending.aevents()) as events:
            async for event in events:
                yield event

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
        template_options: Mapping[str, Any] | None = None,
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
            template_options: Further variables of the chat template.
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
        # 1. what the call leaves out is the decoder's
        sampling, config = sampling or self.sampling, config or self.config
        verifier = self.verifier if verifier is NOT_GIVEN else verifier
        verification = verification or self.verification
        check_configuration(sampling, config)
        self.engine.check_selector(make_selector(config, ComparisonConfig.from_config(config)))
        wave_size = config.wave_size(sampling)
        if watch and wave_size < sampling.n:
            raise ConfigurationError(
                "candidates of several waves cannot be watched side by side; leave out wave and until"
            )
        if config.until == "passed" and verifier is None:
            raise ConfigurationError("until='passed' needs to know what passes; give a verifier, or until='decided'")
        if timeout is not None and not timeout > 0:  # the condition also rejects NaN
            raise ConfigurationError(f"timeout={timeout} leaves no time to answer; give seconds above 0")
        if sampling.seed is None:
            sampling = sampling.model_copy(update={"seed": secrets.randbits(32)})
        # 2. each prompt gets its request, its observer and its selection
        comparison = ComparisonConfig.from_config(config)
        recording = self._recording(config)
        pending: list[PendingRequest] = []
        queued: list[ScheduledRequest] = []
        in_waves: list[WavesUntilEnough] = []
        for i, prompt in enumerate(prompts, first_prompt_index):
            ids = encode_prompt(
                self.loaded.tokenizer,
                prompt,
                raw=raw,
                tools=tools,
                template_options=template_options,
                parse_special_tokens=parse_special_tokens,
            )
            request = GenerationRequest(
                prompt_ids=ids,
                sampling=sampling,
                recording=recording,
                chunk_size=config.chunk_size,
                prompt=last_user_text(prompt),
                prompt_index=i,
                visible_tokens=frozenset(visible_tokens),
                conversation=prompt,
                tools=tuple(tools or ()),
                raw=raw,
                adapter=self.loaded.adapter,
            )
            waves = [
                # a processor keeps a state of the rows that it has seen
                replace(wave, logits_processors=tuple(logits_processors()) if logits_processors else ())
                for wave in request.split(wave_size)
            ]
            events = EventQueue()
            observer = RequestObserver(
                request,
                pruning_policy(config, _selector_of_chunks(config), replace(comparison, chunks=1), sampling.n),
                comparison,
                events,
                streaming=streaming or watch,
                watch=watch,
                early_winner=verifier is None,
                on_progress=on_progress,
                on_rows_freed=on_rows_freed,
            )
            selector, judge, cancellation = make_selector(config, comparison), verifier, Cancellation(timeout)
            scheduled: ScheduledRequest | WavesUntilEnough
            if config.until is None:
                scheduled = ScheduledRequest(waves, observer, cancellation)
                queued.append(scheduled)
            else:
                rule: StoppingRule
                selector = KeptScores(selector)
                if config.until == "passed" and verifier is not None:
                    judge = KeptVerdicts(verifier)
                    rule = UntilPassed(
                        judge,
                        request.prompt,
                        verification,
                        passes=config.passes,
                        selector=selector,
                        threshold=config.decided_at,
                    )
                else:
                    rule = UntilDecided(selector, config.decided_at)
                scheduled = WavesUntilEnough(
                    waves,
                    observer,
                    cancellation,
                    rule=rule,
                    submit=self._scheduler.submit,
                    on_enough=observer.report_end,
                )
                queued.append(scheduled.first)
                in_waves.append(scheduled)
            plan = SelectionPlan(
                request,
                selector,
                comparison,
                judge,
                verification,
                self.engine.name,
                config.min_confidence,
                config.on_low_confidence,
            )
            pending.append(PendingRequest(scheduled, observer, plan, events, watch=watch))
        # 3. all of them enter the queue, or none
        self._scheduler.submit(queued)
        for started in in_waves:
            started.start()
        return pending

    def _recording(self, config: NADConfig) -> RecordingConfig | None:
        """Return the recording config; None if nothing needs neurons or the engine cannot record them."""
        if not config.record or not self.engine.records_neurons:
            return None
        return RecordingConfig(config.score, config.top_k, config.per_layer_top, config.layers, config.router_weights)


def _selector_of_chunks(config: NADConfig) -> Callable[[int], Selector]:
    """Return a function that makes the selector that compares the first chunks, given their number."""
    comparison = ComparisonConfig.from_config(config)
    return lambda chunks: make_selector(config, replace(comparison, chunks=chunks))
