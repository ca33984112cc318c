"""What a backend must offer, free of any backend's types.

An engine holds a batch of rows; a row is one live candidate of one generation. A generation is started (prefill, N
rows), advanced together with every other one in the batch, loses rows by finishing or by being dropped, and yields
its rollouts. Engines are driven by one thread; `nad_agents.engine.scheduler` lets many callers share one.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from nad_agents.neurons.recorder import RecordingConfig
from nad_agents.rollouts import FinishReason, NeuronLayout, RolloutGroup
from nad_agents.types import SamplingConfig

__all__ = ["Engine", "Generation", "GenerationRequest"]


@dataclass(frozen=True)
class GenerationRequest:
    """One prompt to be answered by N candidates.

    Attributes:
        prompt_ids: the prompt's tokens.
        sampling: how candidates are sampled.
        seed: seeds the candidates' random streams (the sampling's own seed may be absent).
        recording: which neurons count as activated; None records nothing.
        chunk_size: tokens per chunk; an engine stops stepping at each chunk's end.
        prompt: the prompt as text, carried along for selectors.
        logits_processors: further processors of the engine's own kind, such as a grammar.
        first_candidate: number of its first candidate, where it is one wave of several.
        visible_tokens: special tokens that stay in the text, because the caller reads them.
    """

    prompt_ids: Sequence[int]
    sampling: SamplingConfig
    seed: int = 0
    recording: RecordingConfig | None = None
    chunk_size: int = 32
    prompt: str = ""
    logits_processors: Sequence[Any] = field(default_factory=tuple)
    visible_tokens: Collection[int] = ()
    first_candidate: int = 0

    @property
    def candidates(self) -> range:
        """The numbers of its candidates."""
        return range(self.first_candidate, self.first_candidate + self.sampling.n)


class Generation(Protocol):
    """A request while the engine works on it."""

    request: GenerationRequest

    @property
    def tokens(self) -> int:
        """Tokens that each live candidate has generated so far."""
        ...

    @property
    def live(self) -> Sequence[int]:
        """Indices of the candidates that still generate."""
        ...

    @property
    def generated(self) -> int:
        """Tokens generated so far by all candidates, finished and dropped ones included."""
        ...

    @property
    def error(self) -> Exception | None:
        """What ended the generation early, if anything did."""
        ...

    @property
    def prefill_seconds(self) -> float:
        """How long the prompt took."""
        ...

    def group(self) -> RolloutGroup:
        """Every candidate as it stands, in index order."""
        ...

    def token_ids(self, candidate: int) -> list[int]:
        """Tokens of one candidate so far."""
        ...

    def text(self, candidate: int) -> str:
        """Text of one candidate so far, cut before a stop string."""
        ...

    def finish_reason(self, candidate: int) -> FinishReason:
        """Why one candidate ended; "running" while it generates."""
        ...


class Engine(Protocol):
    """A batch of rows over one model."""

    @property
    def name(self) -> str:
        """Name of the model."""
        ...

    @property
    def context_length(self) -> int | None:
        """Longest prompt plus answer in tokens; None when the model does not say."""
        ...

    @property
    def rows(self) -> int:
        """Live rows in the batch."""
        ...

    def layout(self, recording: RecordingConfig) -> NeuronLayout:
        """How the recorded neurons are numbered; raises when the model or the layer range does not fit."""
        ...

    def can_join(self) -> bool:
        """Whether another generation may enter the batch while it runs."""
        ...

    def check(self, request: GenerationRequest) -> None:
        """Raise whatever `start` would raise of a request that cannot work, without running the model."""
        ...

    def start(self, request: GenerationRequest) -> Generation:
        """Prefill the prompt once and add N rows to the batch."""
        ...

    def step(self, max_tokens: int) -> None:
        """Advance every row by at most so many tokens; may stop earlier to make use of freed rows."""
        ...

    def drop(self, generation: Generation, candidates: Collection[int]) -> None:
        """Prune candidates: their rows leave the batch, what they produced stays."""
        ...

    def release(self, generation: Generation) -> None:
        """Take a generation out of the batch, finished or not."""
        ...
