"""What transformers builds for a generation: logits processors, stopping criteria and the cache.

`generate` prepares all of this itself when it is called with a `custom_generate` that only takes the parts, so every
option of `GenerationConfig` means here what it means there.
"""

from __future__ import annotations

import copy
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from transformers import Cache, GenerationConfig, LogitsProcessorList, PreTrainedModel, StoppingCriteriaList
from transformers.generation.stopping_criteria import StopStringCriteria
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from nad_agents.engine.base import GenerationRequest
from nad_agents.exceptions import ConfigurationError
from nad_agents.types import SamplingConfig

__all__ = ["GenerationSetup", "SetupBuilder"]

_STOP_CRITERIA = 8
"""Number of compiled stop-string criteria kept in memory; each takes a few bytes per vocabulary entry."""


class GenerationSetup(NamedTuple):
    """What `generate` prepared for one request.

    Attributes:
        processors: Logits processors and warpers, the request's own included.
        criteria: Stopping criteria.
        cache: An empty cache of batch size 1.
    """

    processors: LogitsProcessorList
    criteria: StoppingCriteriaList
    cache: Cache


class SetupBuilder:
    """Has transformers prepare the generations of one model.

    Args:
        model: A decoder-only model.
        tokenizer: The model's tokenizer.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        self._model = model
        # kept, as compiling one reads the whole vocabulary: half a second for 150,000 entries
        self._stop_criterion = lru_cache(_STOP_CRITERIA)(lambda stop: StopStringCriteria(tokenizer, list(stop)))

    def build(self, prompt: torch.Tensor, request: GenerationRequest) -> GenerationSetup:
        """Prepare a request.

        Args:
            prompt: int64 [1, length], the prompt's tokens on the model's device.
            request: The request.

        Raises:
            ConfigurationError: transformers refuses a generation option.
        """

        def take(_model: Any, _ids: torch.Tensor, **parts: Any) -> Any:
            return GenerationSetup(parts["logits_processor"], parts["stopping_criteria"], parts["past_key_values"])

        try:
            generate: Any = self._model.generate
            setup: GenerationSetup = generate(
                prompt,
                custom_generate=take,
                generation_config=self._generation_config(request.sampling),
                logits_processor=LogitsProcessorList(request.logits_processors),
                # as a criterion, since `generate` loses the tokenizer that stop_strings need with a custom_generate
                stopping_criteria=StoppingCriteriaList(
                    [self._stop_criterion(request.sampling.stop)] if request.sampling.stop else []
                ),
            )
        except (TypeError, ValueError) as error:
            msg = f"transformers refuses the generation options: {error}"
            raise ConfigurationError(msg) from error
        return setup

    def _generation_config(self, sampling: SamplingConfig) -> GenerationConfig:
        config = copy.deepcopy(self._model.generation_config)
        greedy = sampling.temperature == 0
        options: dict[str, Any] = {
            "do_sample": not greedy,
            "temperature": 1.0 if greedy else sampling.temperature,
            "top_p": 1.0 if greedy else sampling.top_p,
            "top_k": 50 if greedy else sampling.top_k,
            "min_p": None if greedy else sampling.min_p,
            "repetition_penalty": sampling.repetition_penalty,
            "max_new_tokens": sampling.max_new_tokens,
            "max_length": None,
            "stop_strings": None,
            "num_return_sequences": 1,
            "num_beams": 1,
            **sampling.generation_options,
        }
        unknown = [name for name in options if not hasattr(config, name)]
        if unknown:
            msg = f"unknown generation option {unknown[0]!r}; see transformers.GenerationConfig for the valid ones"
            raise ConfigurationError(msg)
        for name, value in options.items():
            setattr(config, name, value)
        return config
