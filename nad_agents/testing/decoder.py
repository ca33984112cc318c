"""`ScriptedDecoder`: answers prompts from a script; takes the place of `NeuronAgreementDecoder` in tests."""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, Callable, Collection, Generator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import numpy as np

from nad_agents.events import DecodingEvent, Progress
from nad_agents.exceptions import ConfigurationError, PromptError
from nad_agents.prompt import Prompt, encode_prompt, last_user_text
from nad_agents.rollouts import RolloutGroup
from nad_agents.selection import check_configuration
from nad_agents.selectors import get_selector
from nad_agents.testing.models import byte_tokenizer
from nad_agents.testing.pending import ScriptedPendingRequest, ScriptedRequest
from nad_agents.testing.script import ScriptedAnswer
from nad_agents.types import DEFAULT_ROWS, NOT_GIVEN, NADConfig, NotGiven, SamplingConfig, Selection, VerificationConfig
from nad_agents.verification import Verifier

if TYPE_CHECKING:
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

__all__ = ["ScriptedDecoder"]

Answer = str | ScriptedAnswer | Exception
"""The answer to one prompt. A text is the text of all N candidates; an exception is raised."""


class _Options(TypedDict, total=False):
    """The keywords of `ScriptedDecoder.submit` that hold for every way to ask."""

    sampling: SamplingConfig | None
    config: NADConfig | None
    verifier: Verifier | NotGiven | None
    verification: VerificationConfig | None
    raw: bool
    tools: Sequence[Mapping[str, Any]] | None
    chat_template_kwargs: Mapping[str, Any] | None
    logits_processors: Callable[[], Sequence[Any]] | None
    visible_tokens: Collection[int]
    on_progress: Callable[[Progress], None] | None
    on_rows_freed: Callable[[int], None] | None
    parse_special_tokens: bool
    watch: bool
    timeout: float | None


@dataclass(frozen=True)
class _Engine:
    """What front ends ask of an engine."""

    name: str
    context_length: int | None
    rows: int = 0


@dataclass(frozen=True)
class _LoadedModel:
    """What front ends ask of a loaded model; `model` has the two things that compiling a grammar asks for."""

    tokenizer: PreTrainedTokenizerBase
    name: str
    context_length: int | None

    @property
    def model(self) -> SimpleNamespace:
        embeddings = SimpleNamespace(weight=np.empty((len(self.tokenizer), 0)))
        return SimpleNamespace(generation_config=None, get_output_embeddings=lambda: embeddings)


class ScriptedDecoder:
    """A decoder that answers from a script, without a model; goes wherever a `NeuronAgreementDecoder` goes.

    Prompts are really tokenized, configurations really checked and verifiers really called, so that errors before or
    after generation occur here as well. Token limits, stop strings, grammars and timeouts have no effect: the script
    determines their results.

    Args:
        *answers: One answer per prompt, in the order of submission; the last one is used for all further prompts. A
            text is the text of all candidates. A `ScriptedAnswer` must have the number of candidates that the request
            asks for. An exception is raised: PromptError and ConfigurationError at once, others as the result. A
            function gets the `ScriptedRequest` and returns one of these.
        tokenizer: Tokenizer of the prompts; None makes a `byte_tokenizer`.
        sampling: How candidates are sampled unless a call says otherwise. None asks for as many candidates as the first
            answer has.
        config: How candidates are compared unless a call says otherwise.
        verifier: Judges the candidates in rank order; None trusts the ranking.
        verification: How candidates are checked in rank order.
        name: Name of the model.
        context_length: Longest prompt plus answer in tokens, for front ends that check it; None sets no limit.

    Attributes:
        requests: The submitted requests, in order.

    Raises:
        ConfigurationError: There is no answer, or sampling and config do not go together.
    """

    def __init__(
        self,
        *answers: Answer | Callable[[ScriptedRequest], Answer],
        tokenizer: PreTrainedTokenizerBase | None = None,
        sampling: SamplingConfig | None = None,
        config: NADConfig | None = None,
        verifier: Verifier | None = None,
        verification: VerificationConfig | None = None,
        name: str = "scripted",
        context_length: int | None = None,
    ) -> None:
        if not answers:
            msg = "ScriptedDecoder() has nothing to say; give it at least one answer"
            raise ConfigurationError(msg)
        counts = [len(answer.candidates) for answer in answers if isinstance(answer, ScriptedAnswer)]
        # a token per byte makes answers long
        self.sampling = sampling or SamplingConfig(n=(counts or [8])[0], max_new_tokens=2048)
        alone = NADConfig(selector="first", record=False) if self.sampling.n == 1 else NADConfig()
        self.config = config or alone
        self.verifier = verifier
        self.verification = verification or VerificationConfig()
        check_configuration(self.sampling, self.config)
        self.loaded = _LoadedModel(tokenizer or byte_tokenizer(), name, context_length)
        self.engine = _Engine(name, context_length)
        self.requests: list[ScriptedRequest] = []
        self._answers = answers
        self._turns = itertools.count()

    @property
    def prompt_tokens_left(self) -> int:
        """Number of prompt tokens still to be read: 0, since no prompt is read."""
        return 0

    @property
    def max_rows(self) -> int:
        """Greatest number of candidates in one batch: as many as a decoder has by default."""
        return DEFAULT_ROWS

    @property
    def steps(self) -> int:
        """Number of steps of the batch: 0, since there is no batch."""
        return 0

    def check_health(self) -> None:
        """Do nothing: a script always works."""

    def fitting_token_limit(
        self,
        prompt_ids: Sequence[int],  # noqa: ARG002 - the decoder's signature
        *,
        sampling: SamplingConfig,
        config: NADConfig,  # noqa: ARG002
    ) -> int:
        """Return the sampling's token limit: a script takes no memory."""
        return sampling.max_new_tokens

    def decode(self, prompt: Prompt, **options: Unpack[_Options]) -> Selection:
        """Answer one prompt; see `NeuronAgreementDecoder.decode`."""
        return self.submit([prompt], **options)[0].result()

    def decode_many(self, prompts: Sequence[Prompt], **options: Unpack[_Options]) -> list[Selection]:
        """Answer several prompts; see `NeuronAgreementDecoder.decode_many`."""
        return [pending.result() for pending in self.submit(prompts, **options)]

    def sample(self, prompt: Prompt, **options: Unpack[_Options]) -> RolloutGroup:
        """Return the candidates of one prompt, unranked; see `NeuronAgreementDecoder.sample`."""
        return self.submit([prompt], **options)[0].outcome().group

    async def adecode(self, prompt: Prompt, **options: Unpack[_Options]) -> Selection:
        """Answer one prompt without blocking the event loop."""
        return await self.submit([prompt], **options)[0].aresult()

    def stream(self, prompt: Prompt, **options: Unpack[_Options]) -> Generator[DecodingEvent, None, None]:
        """Yield the events of one prompt; see `NeuronAgreementDecoder.stream`."""
        yield from self.submit([prompt], streaming=True, **options)[0].events()

    async def astream(self, prompt: Prompt, **options: Unpack[_Options]) -> AsyncGenerator[DecodingEvent, None]:
        """Do what `stream` does without blocking the event loop."""
        async with aclosing(self.submit([prompt], streaming=True, **options)[0].aevents()) as events:
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
        chat_template_kwargs: Mapping[str, Any] | None = None,
        logits_processors: Callable[[], Sequence[Any]] | None = None,  # noqa: ARG002 - the script is written already
        visible_tokens: Collection[int] = (),  # noqa: ARG002
        parse_special_tokens: bool = False,
        on_progress: Callable[[Progress], None] | None = None,
        on_rows_freed: Callable[[int], None] | None = None,
        streaming: bool = False,  # noqa: ARG002 - events cost nothing
        watch: bool = False,
        timeout: float | None = None,  # noqa: ARG002 - a script takes no time
        first_prompt_index: int = 0,  # noqa: ARG002 - a script draws nothing
    ) -> list[ScriptedPendingRequest]:
        """Take the next answers of the script; see `NeuronAgreementDecoder.submit` for the arguments.

        Raises:
            PromptError: The prompt is empty or refused by the chat template, or the script says so.
            ConfigurationError: Parameters do not go together, an answer of the script has another number of candidates
                than the request, or the script says so.
        """
        sampling, config = sampling or self.sampling, config or self.config
        check_configuration(sampling, config)
        selector = get_selector(config.selector, **config.selector_options).name
        requests = [
            ScriptedRequest(
                prompt=prompt,
                text=last_user_text(prompt),
                prompt_ids=encode_prompt(
                    self.loaded.tokenizer,
                    prompt,
                    raw=raw,
                    tools=tools,
                    chat_template_kwargs=chat_template_kwargs,
                    parse_special_tokens=parse_special_tokens,
                ),
                sampling=sampling,
                config=config,
                tools=tuple(tools or ()),
                chat_template_kwargs=dict(chat_template_kwargs or {}),
            )
            for prompt in prompts
        ]
        self.requests.extend(requests)
        return [
            ScriptedPendingRequest(
                request=request,
                answer=self._next_answer(request),
                tokenizer=self.loaded.tokenizer,
                model=self.engine.name,
                selector=selector,
                verifier=self.verifier if isinstance(verifier, NotGiven) else verifier,
                verification=verification or self.verification,
                on_progress=on_progress,
                on_rows_freed=on_rows_freed,
                watch=watch,
            )
            for request in requests
        ]

    def _next_answer(self, request: ScriptedRequest) -> ScriptedAnswer | Exception:
        answer = self._answers[min(next(self._turns), len(self._answers) - 1)]
        n = request.sampling.n
        if callable(answer):
            answer = answer(request)
        if isinstance(answer, PromptError | ConfigurationError):
            raise answer
        if isinstance(answer, str):
            return ScriptedAnswer([answer] * n)
        if isinstance(answer, ScriptedAnswer) and len(answer.candidates) != n:
            msg = (
                f"the script has {len(answer.candidates)} candidates for {request.text[:60]!r}, and the request asks "
                f"for n={n}; give it n={len(answer.candidates)}, or a text, which stands for all candidates"
            )
            raise ConfigurationError(msg)
        return answer
