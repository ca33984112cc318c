"""The part that engines share whose candidates are generated elsewhere: in vLLM's processes, or at a server."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from nad_agents.engine.base import Generation, GenerationRequest
from nad_agents.engine.served_model import ServedModel
from nad_agents.engine.streamed_generation import StreamedGeneration
from nad_agents.exceptions import GenerationError
from nad_agents.types import DEFAULT_ROWS

__all__ = ["StreamedEngine", "StreamedPrefill"]


@dataclass(eq=False)
class StreamedPrefill:
    """A prompt that has not been sent yet; the backend reads it.

    Attributes:
        request: The request.
        tokens_left: Number of tokens that the scheduler counts for the prompt; 0 once they are counted.
    """

    request: GenerationRequest
    tokens_left: int

    def advance(self) -> int:
        """Return the number of tokens to count for the prompt; the backend reads them later."""
        read, self.tokens_left = self.tokens_left, 0
        return read


class StreamedEngine(ABC):
    """A batch of rows that another process generates; see `nad_agents.engine.base.Engine`.

    Args:
        loaded: The model that front ends use.
        count_prompts: Whether the scheduler counts the tokens of a prompt, because reading it takes this machine's
            time; otherwise a prompt counts as one token.

    Attributes:
        loaded: See above.
    """

    def __init__(self, loaded: ServedModel, *, count_prompts: bool) -> None:
        self.loaded = loaded
        self._count_prompts = count_prompts
        self._generations: list[StreamedGeneration] = []

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.loaded.name

    @property
    def fitting_rows(self) -> int:
        """Greatest number of rows that a batch is to have where the caller does not say."""
        return DEFAULT_ROWS

    @property
    def rows(self) -> int:
        """Number of live candidates."""
        return sum(len(generation.live) for generation in self._generations)

    def check_health(self) -> None:  # noqa: B027 - an engine may have nothing to check
        """Do nothing, as a server elsewhere is not mended by constructing the engine again."""

    def can_join(self) -> bool:
        """Return True, since another generation may always join."""
        return True

    def fitting_token_limit(self, request: GenerationRequest) -> int:
        """Return the request's own token limit, since the backend lets requests wait that do not fit."""
        return request.sampling.max_new_tokens

    @abstractmethod
    def check(self, request: GenerationRequest) -> None:
        """Raise an error for a request that cannot work, without sending anything."""

    @abstractmethod
    def join(self, prefill: StreamedPrefill) -> StreamedGeneration:
        """Send the N candidates of a prompt to the backend."""

    def prefill(self, request: GenerationRequest) -> StreamedPrefill:
        """Start with a prompt.

        Raises:
            NADError: See `check`.
        """
        self.check(request)
        return StreamedPrefill(request, len(request.prompt_ids) if self._count_prompts else 1)

    def start(self, request: GenerationRequest) -> StreamedGeneration:
        """Send a prompt and its N candidates to the backend.

        Raises:
            NADError: See `check`.
        """
        return self.join(self.prefill(request))

    def _wait_is_over(self, generation: StreamedGeneration, max_tokens: int) -> bool:
        """Return whether every live candidate has `max_tokens` further tokens, or all candidates have ended."""
        return generation.all_finished or generation.ready >= generation.tokens + max_tokens

    def _find(self, generation: Generation) -> StreamedGeneration:
        for mine in self._generations:
            if mine is generation:
                return mine
        msg = "the generation is not in this engine's batch; it was released already"
        raise GenerationError(msg)
