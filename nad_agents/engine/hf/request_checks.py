"""Check a request before the model runs: its length, and whether its candidates fit into memory."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch

from nad_agents.engine.base import GenerationRequest
from nad_agents.engine.hf.available_memory import available_device_memory, available_host_memory, return_free_memory
from nad_agents.engine.hf.memory import MemoryNeed, ModelShape, check_memory, memory_need
from nad_agents.exceptions import ConfigurationError, PromptError, PromptTooLongError
from nad_agents.neurons.recording_config import RecordingConfig
from nad_agents.types import SamplingConfig

__all__ = ["RequestMemory", "check_fits_context"]

_SHARE = 0.5
"""Share of the available memory that a default token limit may take, so that other requests have room too."""

_USUAL_TOKENS = 1024
"""Tokens of a prompt, and of an answer, for which a batch is to have room."""

_MOST_ROWS = 2048
"""Rows beyond which a batch only makes its requests slower: the products are as fast as they get."""


def check_fits_context(request: GenerationRequest, context_length: int | None, *, name: str) -> None:
    """Refuse a request whose prompt and answer exceed the model's context.

    Args:
        request: The request.
        context_length: Greatest length of prompt and answer together, in tokens; None if the model does not say.
        name: The model's name, for the message.

    Raises:
        PromptError: The prompt has no tokens.
        PromptTooLongError: Prompt and answer do not fit.
    """
    prompt, max_new_tokens = len(request.prompt_ids), request.sampling.max_new_tokens
    if prompt == 0:
        msg = "the prompt is empty; give at least one token of text"
        raise PromptError(msg)
    if context_length is None or prompt + max_new_tokens <= context_length:
        return
    if prompt >= context_length:
        msg = f"the prompt has {prompt} tokens and {name} takes {context_length} with the answer; shorten it"
    else:
        msg = (
            f"prompt ({prompt} tokens) and max_new_tokens={max_new_tokens} exceed the {context_length} tokens of "
            f"{name}; set max_new_tokens to at most {context_length - prompt}"
        )
    raise PromptTooLongError(msg)


@dataclass(frozen=True)
class RequestMemory:
    """Holds the memory that candidates of a model take against the memory that is available.

    Attributes:
        shape: The model's dimensions.
        device: The model's device.
        shares_prompt: Whether all candidates attend to one copy of the prompt's keys and values.
    """

    shape: ModelShape
    device: torch.device
    shares_prompt: bool

    def check(self, request: GenerationRequest, widths: Sequence[int], *, free_caches: Callable[[], None]) -> None:
        """Refuse a request whose candidates do not fit into the memory that is available now.

        Args:
            request: The request.
            widths: Feed-forward width of each recorded layer.
            free_caches: Frees what earlier requests have left behind; called before a request is refused.

        Raises:
            ConfigurationError: The candidates do not fit.
        """
        sampling, shared = request.sampling, self.device.type != "cuda"
        need = self._need(request, widths)

        def check() -> None:
            available, host = _available(self.device)
            check_memory(need, sampling.n, sampling.max_new_tokens, device=available, host=host, shared=shared)

        try:
            check()
        except ConfigurationError:
            # memory that earlier requests left unused counts as taken until it is returned
            free_caches()
            return_free_memory()
            check()

    def fitting_token_limit(self, request: GenerationRequest, widths: Sequence[int]) -> int:
        """Return the largest token limit, up to the request's, whose candidates take half of the available memory.

        Args:
            request: The request.
            widths: Feed-forward width of each recorded layer.

        Returns:
            The token limit; 0 if the prompt alone takes more.
        """
        sampling = request.sampling
        on_device, on_host = _available(self.device)

        def fits(limit: int) -> bool:
            limited = replace(request, sampling=sampling.model_copy(update={"max_new_tokens": limit}))
            wanted = self._need(limited, widths)(sampling.n)
            if self.device.type != "cuda":
                return on_device is None or wanted.total <= _SHARE * on_device
            device_fits = on_device is None or wanted.device <= _SHARE * on_device
            return device_fits and (on_host is None or wanted.kept <= _SHARE * on_host)

        # the need grows with every token
        return bisect_left(range(1, sampling.max_new_tokens + 1), True, key=lambda limit: not fits(limit))

    def fitting_rows(self, widths: Sequence[int]) -> int:
        """Return how many candidates of 1,024 tokens, with neurons recorded, fit into half of a GPU's free memory.

        Args:
            widths: Feed-forward width of each layer.

        Returns:
            Number of rows, from 1 to 2,048.
        """
        available = available_device_memory(self.device) or 0
        sampling = SamplingConfig(max_new_tokens=_USUAL_TOKENS, seed=0)
        need = self._need(GenerationRequest((0,) * _USUAL_TOKENS, sampling, RecordingConfig()), widths)
        return max(1, bisect_left(range(1, _MOST_ROWS + 1), True, key=lambda n: need(n).device > _SHARE * available))

    def _need(self, request: GenerationRequest, widths: Sequence[int]) -> Callable[[int], MemoryNeed]:
        """Return a function that says how much memory a given number of candidates of a request takes."""
        return partial(
            memory_need,
            self.shape,
            request.sampling,
            len(request.prompt_ids),
            recording=request.recording,
            widths=widths,
            chunk_size=request.chunk_size,
            on_heap=self.device.type == "cpu",
            shares_prompt=self.shares_prompt,
        )


def _available(device: torch.device) -> tuple[int | None, int | None]:
    """Return the bytes that are available on the device and on the host, None where that is unknown."""
    on_device = available_device_memory(device)
    return on_device, available_host_memory() if device.type == "cuda" else on_device
