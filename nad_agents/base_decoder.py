"""`BaseDecoder`: the calls that answer prompts, all of which follow from one method, `submit`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from nad_agents.events import DecodingEvent, Progress
from nad_agents.pending import PendingRequest, submit_in_thread
from nad_agents.prompt import Prompt
from nad_agents.rollouts import RolloutGroup
from nad_agents.types import NOT_GIVEN, NADConfig, NotGiven, SamplingConfig, Selection, VerificationConfig
from nad_agents.verification import Verifier

__all__ = ["BaseDecoder"]


class BaseDecoder(ABC):
    """Answers prompts in every way that `submit` makes possible: waiting or not, with events or without."""

    @abstractmethod
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
        """Queue prompts and return at once; see `NeuronAgreementDecoder.submit` for the keywords."""

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
        chat_template_kwargs: Mapping[str, Any] | None = None,
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
            chat_template_kwargs=chat_template_kwargs,
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
        chat_template_kwargs: Mapping[str, Any] | None = None,
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
            chat_template_kwargs=chat_template_kwargs,
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
        chat_template_kwargs: Mapping[str, Any] | None = None,
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
            chat_template_kwargs=chat_template_kwargs,
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
        chat_template_kwargs: Mapping[str, Any] | None = None,
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
                chat_template_kwargs=chat_template_kwargs,
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
        chat_template_kwargs: Mapping[str, Any] | None = None,
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
            chat_template_kwargs=chat_template_kwargs,
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
        chat_template_kwargs: Mapping[str, Any] | None = None,
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
                chat_template_kwargs=chat_template_kwargs,
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
