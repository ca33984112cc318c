"""The interface that every backend implements, without any backend's own types.

An engine holds a batch of rows; a row is one live candidate of one generation. A generation's prompt is read piece by
piece, then its N rows join the batch, are advanced together with those of every other generation, leave it as
candidates finish or are dropped, and yield the rollouts. One thread drives an engine; `nad_agents.engine.scheduler`
lets many callers share it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from nad_agents.exceptions import ConfigurationError
from nad_agents.neurons.recording_config import RecordingConfig
from nad_agents.prompt import Prompt
from nad_agents.rollouts import FinishReason, NeuronLayout, RolloutGroup
from nad_agents.selectors.base import Selector
from nad_agents.types import SamplingConfig

__all__ = ["Engine", "Generation", "GenerationRequest", "Prefill"]


@dataclass(frozen=True)
class GenerationRequest:
    """One prompt to be answered by N candidates, or by one wave of them.

    Attributes:
        prompt_ids: The prompt's token ids.
        sampling: How candidates are sampled; it must have a seed.
        recording: Which neurons count as activated; None records nothing.
        chunk_size: Tokens per chunk; an engine stops stepping at the end of each chunk.
        prompt: The user's text, carried along for selectors that read it.
        prompt_index: Position of the prompt in the caller's list of prompts; together with the seed it determines the
            candidates' random streams.
        first_candidate: Index of the first candidate, if this request is one of several waves.
        logits_processors: Further processors of the backend's own kind, such as a grammar.
        visible_tokens: Special tokens that stay in the text because the caller parses them.
        conversation: The prompt as the caller gave it, text or messages, for backends that render it themselves.
        tools: Tools in OpenAI's form, for the same backends.
        raw: Whether the text is continued as it is, for the same backends.
        adapter: Folder or hub id of the LoRA adapter to generate with, for backends that run several beside one model.

    Raises:
        ConfigurationError: The sampling has no seed.
    """

    prompt_ids: Sequence[int]
    sampling: SamplingConfig
    recording: RecordingConfig | None = None
    chunk_size: int = 32
    prompt: str = ""
    prompt_index: int = 0
    first_candidate: int = 0
    logits_processors: Sequence[Any] = field(default_factory=tuple)
    visible_tokens: Collection[int] = ()
    conversation: Prompt = ""
    tools: Sequence[Mapping[str, Any]] = ()
    raw: bool = False
    adapter: str | None = None

    def __post_init__(self) -> None:
        """Refuse a sampling without a seed, whose candidates could not be sampled again."""
        if self.sampling.seed is None:
            msg = "a request's sampling needs a seed; draw one, or give SamplingConfig(seed=...)"
            raise ConfigurationError(msg)

    @property
    def seed(self) -> int:
        """The sampling's seed."""
        assert self.sampling.seed is not None
        return self.sampling.seed

    @property
    def candidates(self) -> range:
        """Indices of the request's candidates."""
        return range(self.first_candidate, self.first_candidate + self.sampling.n)

    def candidate_seeds(self) -> dict[int, int]:
        """Return a 63-bit seed for the random stream of each candidate.

        The streams of two candidates are independent whenever seed, prompt index or candidate index differ, so
        candidate i is the same however many others there are.
        """
        return {
            candidate: int(
                np.random.SeedSequence([self.seed, self.prompt_index, candidate]).generate_state(1, np.uint64)[0] >> 1
            )
            for candidate in self.candidates
        }

    def split(self, size: int) -> list[GenerationRequest]:
        """Split the request into waves of at most `size` candidates, which together have the same candidates.

        The waves share the logits processors; replace those that keep a state.
        """
        n = self.sampling.n
        return [
            replace(
                self,
                sampling=self.sampling.model_copy(update={"n": min(size, n - first)}),
                first_candidate=self.first_candidate + first,
            )
            for first in range(0, n, size)
        ]


class Generation(Protocol):
    """A request that an engine is working on."""

    request: GenerationRequest

    @property
    def tokens(self) -> int:
        """Number of tokens that each live candidate has generated so far."""
        ...

    @property
    def live(self) -> Sequence[int]:
        """Indices of the candidates that are still generating."""
        ...

    @property
    def generated(self) -> int:
        """Number of tokens generated so far by all candidates, finished and dropped ones included."""
        ...

    @property
    def error(self) -> Exception | None:
        """The error that ended the generation early; None if there was none."""
        ...

    @property
    def prefill_seconds(self) -> float:
        """Seconds of the prefill, those spent on the batch between its pieces included."""
        ...

    @property
    def cached_tokens(self) -> int:
        """Number of prompt tokens that the prefill did not read, since an earlier prompt began with them."""
        ...

    @property
    def prompt_tokens(self) -> int | None:
        """Number of prompt tokens as the backend counts them; None if it is the length of the request's ids."""
        ...

    def group(self) -> RolloutGroup:
        """Return every candidate in its present state, in index order."""
        ...

    def token_ids(self, candidate: int) -> list[int]:
        """Return the tokens that a candidate has generated so far."""
        ...

    def text(self, candidate: int) -> str:
        """Return the text of a candidate so far, cut before the first stop string."""
        ...

    def finish_reason(self, candidate: int) -> FinishReason:
        """Return why a candidate ended, or "running" while it is still generating."""
        ...


class Prefill(Protocol):
    """A prompt that an engine is reading piece by piece; dropping the object ends the reading."""

    @property
    def tokens_left(self) -> int:
        """Number of prompt tokens that are still to be read."""
        ...

    def advance(self) -> int:
        """Read the next piece of the prompt and return its number of tokens, 0 if nothing is left."""
        ...


class Engine(Protocol):
    """A batch of rows over one model."""

    @property
    def name(self) -> str:
        """Name of the model."""
        ...

    @property
    def context_length(self) -> int | None:
        """Greatest length of prompt and answer together, in tokens; None if the model's config does not say."""
        ...

    @property
    def records_neurons(self) -> bool:
        """Whether the engine can record neurons at all; if not, only selectors that need none work."""
        ...

    @property
    def rows(self) -> int:
        """Number of live rows in the batch."""
        ...

    @property
    def fitting_rows(self) -> int:
        """Greatest number of rows that a batch is to have where the caller does not say."""
        ...

    def check_selector(self, selector: Selector) -> None:
        """Raise ConfigurationError if a selector reads what the engine's candidates do not have."""
        ...

    def layout(self, recording: RecordingConfig) -> NeuronLayout:
        """Return how the recorded neurons are numbered; raise if they cannot be recorded from this model."""
        ...

    def can_join(self) -> bool:
        """Return whether another generation may enter the batch while it runs."""
        ...

    def check(self, request: GenerationRequest) -> None:
        """Raise the error that `prefill` would raise for a request that cannot work, without running the model."""
        ...

    def prefill(self, request: GenerationRequest) -> Prefill:
        """Begin to read a prompt; `step` may be called between its pieces."""
        ...

    def join(self, prefill: Any) -> Generation:
        """Add N rows to the batch for a prompt of which nothing is left to read."""
        ...

    def start(self, request: GenerationRequest) -> Generation:
        """Read a prompt whole and add N rows to the batch."""
        ...

    def step(self, max_tokens: int) -> None:
        """Advance every row by at most `max_tokens` tokens; may stop earlier to make use of freed rows."""
        ...

    def drop(self, generation: Generation, candidates: Collection[int]) -> None:
        """Prune candidates: their rows leave the batch, and what they have generated is kept."""
        ...

    def release(self, generation: Generation) -> None:
        """Take a generation out of the batch, finished or not."""
        ...

    def fitting_token_limit(self, request: GenerationRequest) -> int:
        """Return the largest token limit, up to the request's, that leaves memory for other requests."""
        ...

    def check_health(self) -> None:
        """Raise GenerationError if the engine cannot work any more; any thread may call this."""
        ...

    def close(self) -> None:
        """Free what the engine holds outside this process; it cannot be used afterwards."""
        ...

    def reset_after_fork(self) -> None:
        """Drop what the parent's thread was generating; raise if a forked process cannot use the model."""
        ...
