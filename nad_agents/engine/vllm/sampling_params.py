"""Convert a generation request to vLLM's sampling parameters; refuse options that vLLM has no counterpart for."""

from __future__ import annotations

from typing import Any

from nad_agents.constrained.structured_output import StructuredOutput
from nad_agents.engine.base import GenerationRequest
from nad_agents.engine.vllm.request_options import EXTRA_ARG, RequestOptions
from nad_agents.exceptions import ConfigurationError

__all__ = ["candidate_options", "check_supported"]

_GENERATION_OPTIONS = {"min_new_tokens": "min_tokens"}
"""Maps the name of an option in transformers.GenerationConfig to its name in vLLM's SamplingParams."""


def check_supported(request: GenerationRequest) -> None:
    """Refuse options that vLLM does not support, before anything is generated.

    Raises:
        ConfigurationError: An option is not supported; the message names it and an alternative.
    """
    if request.recording is not None and request.recording.score != "activation":
        msg = (
            f"score={request.recording.score!r} needs the model's weights beside the activations, which engine='vllm' "
            "does not read; set score='activation', or use engine='hf'"
        )
        raise ConfigurationError(msg)
    for processor in request.logits_processors:
        if not isinstance(processor, StructuredOutput):
            msg = (
                f"{type(processor).__name__} is a logits processor of transformers, which engine='vllm' cannot run; "
                "use engine='hf', or ask for a response format, which vLLM holds candidates to itself"
            )
            raise ConfigurationError(msg)
    if len(request.logits_processors) > 1:
        msg = "engine='vllm' holds candidates to one grammar at a time; give one"
        raise ConfigurationError(msg)
    for name in request.sampling.generation_options:
        if name not in _GENERATION_OPTIONS:
            known = ", ".join(_GENERATION_OPTIONS)
            msg = (
                f"generation option {name!r} is one of transformers that engine='vllm' does not have; it has {known}; "
                "leave the option out, or use engine='hf'"
            )
            raise ConfigurationError(msg)


def candidate_options(request: GenerationRequest, seed: int) -> dict[str, Any]:
    """Return the keywords of `vllm.SamplingParams` for one candidate, except for structured output.

    Args:
        request: The request.
        seed: Seed of the candidate's random stream.
    """
    sampling = request.sampling
    greedy = sampling.temperature == 0
    options: dict[str, Any] = {
        "n": 1,
        "temperature": sampling.temperature,
        "top_p": 1.0 if greedy else sampling.top_p,
        "top_k": 0 if greedy else sampling.top_k,
        "min_p": 0.0 if greedy else sampling.min_p or 0.0,
        "repetition_penalty": sampling.repetition_penalty,
        "seed": seed,
        "stop": list(sampling.stop) or None,
        # this process decodes the tokens itself; vLLM needs the text only to find stop strings
        "detokenize": bool(sampling.stop),
        "skip_special_tokens": not request.visible_tokens,
        "max_tokens": sampling.max_new_tokens,
        # the log-probability of the drawn token under the unmodified distribution
        "logprobs": 0,
        "flat_logprobs": True,
        "extra_args": {EXTRA_ARG: RequestOptions.of(request.recording).model_dump_json()},
    }
    return options | {_GENERATION_OPTIONS[name]: value for name, value in sampling.generation_options.items()}
