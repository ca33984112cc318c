"""`NeuronAgreementDecoder`: sample N candidates, rank them by neuron agreement, verify down the ranking.

prompt -> tokens -> engine (prefill once, N rows, chunks) -> selector -> ranking -> verifier -> Selection
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from nad_agents.engine.base import GenerationRequest
from nad_agents.engine.hf.engine import HFEngine
from nad_agents.engine.scheduler import Scheduler, Ticket, Waves, split_into_waves
from nad_agents.events import DecodingEvent, Progress
from nad_agents.exceptions import ConfigurationError
from nad_agents.models import DEFAULT_MODEL, LoadedModel, load_model
from nad_agents.neurons.activated_sets import ComparisonConfig
from nad_agents.neurons.recorder import RecordingConfig
from nad_agents.pending import PendingRequest
from nad_agents.prompt import Prompt, encode_prompt, last_user_text
from nad_agents.pruning import pruning_policy
from nad_agents.rollouts import RolloutGroup
from nad_agents.selection import check_configuration, make_selector
from nad_agents.selectors.base import Selector
from nad_agents.types import NOT_GIVEN, NADConfig, NotGiven, SamplingConfig, Selection, VerificationConfig
from nad_agents.verification import Verifier

__all__ = ["NeuronAgreementDecoder"]


class NeuronAgreementDecoder:
    """Best-of-N over a local model; safe to share between threads, which then share batches.

    Args:
        model: a Hugging Face Hub id, a local folder, a GGUF file, or a model that `load_model` gave. Weights are
            loaded at once.
        sampling: how candidates are sampled unless a call says otherwise.
        config: what is recorded and how candidates are compared unless a call says otherwise.
        verifier: judges answers in rank order; None trusts the ranking.
        verification: how the ranking is walked.
        device: "auto", or a torch device.
        dtype: "auto", or the name of a torch dtype.
        max_rows: candidates of all requests in one batch.
        share_batches: False runs one request at a time, which makes a seeded result independent of other callers
            down to the last bit.
        prefix_cache_mb: memory for what the model made of earlier prompts, MiB: a conversation's next turn is read from
            where it is new. 0 keeps nothing, which makes a seeded result independent of earlier prompts down to the
            last bit.

    Raises:
        ModelLoadError: the model cannot be loaded.
        ConfigurationError: a parameter cannot work.
    """

    def __init__(
        self,
        model: str | Path | LoadedModel = DEFAULT_MODEL,
        *,
        sampling: SamplingConfig | None = None,
        config: NADConfig | None = None,
        verifier: Verifier | None = None,
        verification: VerificationConfig | None = None,
        device: str = "auto",
        dtype: str | torch.dtype = "auto",
        max_rows: int = 128,
        share_batches: bool = True,
        prefix_cache_mb: int = 256,
    ) -> None:
        self.sampling = sampling or SamplingConfig()
        self.config = config or NADConfig()
        self.verifier = verifier
        self.verification = verification or VerificationConfig()
        check_configuration(self.sampling, self.config)
        if prefix_cache_mb < 0:
            raise ConfigurationError(f"prefix_cache_mb is {prefix_cache_mb}; give 0 or more")
        self.loaded = model if isinstance(model, LoadedModel) else load_model(model, device=device, dtype=dtype)
        self.engine = HFEngine(
            self.loaded.model, self.loaded.tokenizer, name=self.loaded.name, prefix_bytes=prefix_cache_mb * 2**20
        )
        self._scheduler = Scheduler(self.engine, max_rows=max_rows, share_batches=share_batches)

    @property
    def steps(self) -> int:
        """How many times the batch was advanced, by a chunk or less."""
        return self._scheduler.steps

    def decode(
        self,
        prompt: Prompt,
        *,
        on_progress: Callable[[Progress], None] | None = None,
        **options: Any,
    ) -> Selection:
        """Answer one prompt.

        Args:
            prompt: text or chat messages. Text becomes a user message where the model has a chat template.
            on_progress: called on the engine's thread as the candidates grow; must return quickly.
            **options: `sampling`, `config`, `verifier`, `raw`, `tools`, `template_options`, `logits_processors`; see
                `submit`.

        Returns:
            The winner with its evidence.

        Raises:
            PromptError: the prompt is empty, too long, or refused by the chat template.
            ConfigurationError: parameters do not go together.
            UnsupportedModelError: the model has no neurons that can be recorded.
            GenerationError: the model failed.
            NoCandidatePassedError: no candidate passed, and the verification config asks for an error.
            VerificationError: the verifier failed.
        """
        pending = self.submit([prompt], on_progress=on_progress, **options)[0]
        try:
            return pending.result()
        except BaseException:
            pending.cancel()
            raise

    def decode_many(self, prompts: Sequence[Prompt], **options: Any) -> list[Selection]:
        """Answer several prompts in one batch; candidates of prompt i are seeded by (seed, i).

        Args:
            prompts: see `decode`.
            **options: see `submit`; they hold for every prompt.
        """
        pending = self.submit(prompts, **options)
        try:
            return [request.result() for request in pending]
        except BaseException:
            for request in pending:
                request.cancel()
            raise

    def sample(self, prompt: Prompt, **options: Any) -> RolloutGroup:
        """Sample the candidates of one prompt without choosing: what `decode` ranks, to rank or keep elsewhere.

        Args:
            prompt: see `decode`.
            **options: see `submit`.
        """
        pending = self.submit([prompt], **options)[0]
        try:
            return pending.outcome().group
        except BaseException:
            pending.cancel()
            raise

    async def adecode(self, prompt: Prompt, **options: Any) -> Selection:
        """`decode` without blocking the event loop; cancelling the task stops the generation within a chunk."""
        pending = await self._asubmit(prompt, **options)
        try:
            return await pending.aresult()
        except BaseException:
            pending.cancel()
            raise

    def stream(self, prompt: Prompt, **options: Any) -> Iterator[DecodingEvent]:
        """Answer one prompt and tell what happens meanwhile.

        Text comes after the selection; with `pruning="first_chunk"`, `keep=1` and no verifier the winner's text streams
        from the end of the first chunk on, token by token; with `pruning="halving"` once one is left.

        With `watch=True` the events tell of every candidate as well: its text in `Progress.growth`, Compared and Pruned
        at the ends of chunks, Ranking and each Verified before the winner; see `nad_agents.events`.

        Args:
            prompt: see `decode`.
            **options: see `submit`.

        Yields:
            Progress, then WinnerChosen, TextDelta, and Finished last.
        """
        pending = self.submit([prompt], streaming=True, **options)[0]
        try:
            yield from pending.events()
        finally:
            pending.cancel()

    async def astream(self, prompt: Prompt, **options: Any) -> AsyncIterator[DecodingEvent]:
        """`stream` without blocking the event loop; leaving the loop early stops the generation within a chunk."""
        pending = await self._asubmit(prompt, streaming=True, **options)
        try:
            async for event in pending.aevents():
                yield event
        finally:
            pending.cancel()

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
        on_progress: Callable[[Progress], None] | None = None,
        on_rows_freed: Callable[[int], None] | None = None,
        streaming: bool = False,
        watch: bool = False,
    ) -> list[PendingRequest]:
        """Queue prompts and return at once.

        Args:
            prompts: each as in `decode`.
            sampling: instead of the decoder's.
            config: instead of the decoder's.
            verifier: instead of the decoder's; None trusts the ranking.
            verification: instead of the decoder's.
            raw: take text as it is, without the chat template.
            tools: tools in OpenAI's form, for the chat template.
            template_options: further variables of the chat template.
            logits_processors: makes further logits processors, anew for each prompt.
            visible_tokens: special tokens that stay in the text, because the caller reads them.
            on_progress: called on the engine's thread as candidates grow.
            on_rows_freed: called there with how many candidates of a prompt still generate, whenever some have ended
                or are dropped; unlike `on_progress` it costs no shorter steps.
            streaming: collect events for `PendingRequest.events`.
            watch: tell of every candidate, which costs decoding each one's text every few tokens.

        Raises:
            NADError: whatever `decode` raises before it generates; nothing is queued then.
        """
        sampling, config = sampling or self.sampling, config or self.config
        verifier = self.verifier if isinstance(verifier, NotGiven) else verifier
        check_configuration(sampling, config)
        if watch and sampling.in_waves:
            raise ConfigurationError("candidates of several waves cannot be watched side by side; leave out wave")
        seed = sampling.seed if sampling.seed is not None else secrets.randbits(32)
        recording = (
            RecordingConfig(config.score, config.top_k, config.per_layer_top, config.layers) if config.record else None
        )
        comparison = ComparisonConfig.from_config(config)
        first = replace(comparison, chunks=1)

        def selector_of_chunks(chunks: int) -> Selector:
            return make_selector(config, replace(comparison, chunks=chunks))

        submitted, observers, later = [], [], []
        for i, prompt in enumerate(prompts):
            ids = encode_prompt(self.loaded.tokenizer, prompt, raw=raw, tools=tools, template_options=template_options)
            asked = last_user_text(prompt)
            request = GenerationRequest(
                prompt_ids=ids,
                sampling=sampling,
                # one prompt keeps the plain seed, so that a batch of one equals a single call
                seed=seed + i,
                recording=recording,
                chunk_size=config.chunk_size,
                prompt=asked,
                visible_tokens=frozenset(visible_tokens),
            )
            waves = [
                # processors keep a state of the rows that they have seen
                replace(wave, logits_processors=tuple(logits_processors()) if logits_processors else ())
                for wave in split_into_waves(request, sampling.wave or sampling.n)
            ]
            pending = PendingRequest(
                request=waves[0],
                selector=make_selector(config, comparison),
                comparison=comparison,
                policy=pruning_policy(config, selector_of_chunks, first, sampling.n),
                verifier=verifier,
                verification=verification or self.verification,
                model=self.engine.name,
                on_progress=on_progress,
                on_rows_freed=on_rows_freed,
                streaming=streaming,
                watch=watch,
            )
            submitted.append((waves[0], pending))
            observers.append(pending)
            later.append(deque(waves[1:]))
        for pending, ticket, rest in zip(observers, self._scheduler.submit(submitted), later, strict=True):
            pending.attach(Waves(ticket, rest, partial(self._submit_wave, pending)) if rest else ticket)
        return observers

    def _submit_wave(self, pending: PendingRequest, request: GenerationRequest) -> Ticket:
        return self._scheduler.submit([(request, pending)])[0]

    def warm_up(self) -> float:
        """Run one token through the model, which allocates what the first request would; returns the seconds."""
        started = time.perf_counter()
        config = NADConfig(selector="first", record=False)
        self.decode("Hi", sampling=SamplingConfig(n=1, max_new_tokens=1), config=config)
        return time.perf_counter() - started

    async def _asubmit(self, prompt: Prompt, **options: Any) -> PendingRequest:
        """`submit` on another thread, since tokenizing a long text or compiling a template takes a while."""
        submitting = asyncio.ensure_future(asyncio.to_thread(self.submit, [prompt], **options))
        try:
            return (await asyncio.shield(submitting))[0]
        except asyncio.CancelledError:
            submitting.add_done_callback(_cancel_submitted)
            raise


def _cancel_submitted(submitting: asyncio.Future[list[PendingRequest]]) -> None:
    """Cancel requests whose caller went away while they were being queued."""
    if not submitting.cancelled() and submitting.exception() is None:
        for pending in submitting.result():
            pending.cancel()
