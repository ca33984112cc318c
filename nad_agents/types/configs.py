"""The settings that a caller gives: sampling, neuron agreement and verification."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from nad_agents.types.frozen_model import FrozenModel

__all__ = [
    "BEHAVIOUR_SELECTORS",
    "DEFAULT_ROWS",
    "EngineName",
    "NADConfig",
    "Pruning",
    "SamplingConfig",
    "ScoreName",
    "Similarity",
    "Until",
    "VerificationConfig",
]

ScoreName = Literal["activation", "attribution"]
"""Score of a neuron: its absolute activation, or its direct contribution to the logit of the emitted token (arXiv
2504.07440, eq. 5)."""

EngineName = Literal["hf", "vllm", "openai"]
"""Engine that runs the model: transformers in the caller's process, vLLM in its own processes, or a server with
OpenAI's protocol, which shows no neurons."""

DEFAULT_ROWS = 128
"""Greatest number of candidates in one batch where neither the caller nor a GPU's memory bounds it."""

Similarity = Literal["jaccard", "weighted_jaccard", "weighted_jaccard_rates", "cosine"]
"""How two candidates' activated neurons are compared."""

Pruning = Literal["never", "first_chunk", "halving"]
"""When losing candidates are dropped: never; all but `keep` after the first chunk (arXiv 2510.26277, section 4); or all
but one in `shrink` after every chunk until `keep` are left (successive halving, arXiv 1502.07943)."""

BEHAVIOUR_SELECTORS = ("behaviour", "behaviour_groups")
"""Names of the selectors that compare what the candidates' programs do, for which they need a runner."""

Until = Literal["passed", "decided"]
"""Rule for stopping before n candidates are sampled: when one passes the verifier, or when the leading one is decided
by the criterion of adaptive consistency (arXiv 2305.11860)."""

_WAVES = {"passed": 2, "decided": 4}
"""Number of candidates per wave if sampling may stop early; a smaller number saves more tokens but takes more time."""


class SamplingConfig(FrozenModel):
    """Options for sampling candidates; the description of each field says what it does."""

    n: int = Field(default=8, ge=1, description="Number of candidates.")
    wave: int | None = Field(
        default=None,
        ge=1,
        description="Number of candidates generated at a time, which takes less memory and more time; None generates "
        "all of them together.",
    )
    max_new_tokens: int = Field(default=256, ge=1, description="Token limit of each candidate.")
    temperature: float = Field(
        default=0.8,
        ge=0,
        allow_inf_nan=False,
        description="Sampling temperature; 0 decodes greedily, which allows one candidate only.",
    )
    top_p: float = Field(
        default=0.95,
        gt=0,
        le=1,
        description="Nucleus sampling: keep the likeliest tokens that together have this probability; 1 keeps all.",
    )
    top_k: int = Field(default=50, ge=0, description="Keep the k likeliest tokens; 0 keeps all.")
    min_p: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Keep tokens that have at least this share of the likeliest token's probability; None keeps all.",
    )
    repetition_penalty: float = Field(
        default=1.0, gt=0, allow_inf_nan=False, description="Values above 1 discourage repetition."
    )
    stop: tuple[str, ...] = Field(
        default=(), description="Strings that end a candidate; the answer is cut before the first of them."
    )
    seed: int | None = Field(
        default=None,
        ge=0,
        description="Seed of the candidates' random streams; None draws a fresh seed, which the result reports.",
    )
    generation_options: Mapping[str, Any] = Field(
        default_factory=dict, description="Further options of transformers.GenerationConfig."
    )

    @field_validator("stop", mode="before")
    @classmethod
    def _stop_as_tuple(cls, value: object) -> object:
        if value is None:
            return ()
        return (value,) if isinstance(value, str) else value

    @field_validator("stop")
    @classmethod
    def _stop_not_empty(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any(not s for s in value):
            msg = f"stop={list(value)!r} has an empty string, which would end every candidate at once; remove it"
            raise ValueError(msg)
        return value

    @model_validator(mode="after")
    def _greedy_has_one_candidate(self) -> SamplingConfig:
        if self.temperature == 0 and self.n > 1:
            msg = (
                f"temperature 0 gives {self.n} identical candidates; "
                "set temperature above 0 (0.6 to 1.0 is usual), or n=1"
            )
            raise ValueError(msg)
        return self


class NADConfig(FrozenModel):
    """Options for recording neurons, comparing candidates, and dropping the losing ones early."""

    selector: str | Callable[..., Any] = Field(
        default="auto", description="Name of a registered selector, or a callable that maps a RolloutGroup to N scores."
    )
    selector_options: Mapping[str, Any] = Field(
        default_factory=dict, description="Further parameters of the selector, such as k of knn."
    )
    similarity: Similarity = Field(
        default="jaccard", description="Similarity of two candidates' activated neurons, for agreement selectors."
    )
    score: ScoreName = Field(
        default="activation",
        description="Score of a neuron: its absolute activation, or its attribution to the emitted token's logit.",
    )
    top_k_neurons: int = Field(default=500, ge=1, description="Activated neurons per token, over all recorded layers.")
    top_k_neurons_per_layer: int = Field(
        default=64, ge=1, description="Most activated neurons that one layer contributes to a token."
    )
    layers: tuple[int, int] | None = Field(
        default=None,
        description="Recorded layers as a half-open range (first, end), counted over the layers that have a "
        "feed-forward block; None records all of them.",
    )
    router_weights: bool = Field(
        default=True,
        description="Whether the activation score of a mixture of experts is the activation times the router's weight "
        "of its expert, or the activation alone; attribution always has the weight.",
    )
    chunk_size: int = Field(default=32, ge=1, description="Tokens per chunk.")
    compare_chunks: int | None = Field(
        default=None, ge=1, description="Number of chunks that are compared; None compares whole answers."
    )
    skip_tokens: int = Field(
        default=0, ge=0, description="Tokens left out at the start of each answer, which candidates often share."
    )
    common_prefix: bool = Field(
        default=False,
        description="Compare only as many tokens as the shortest candidate has, which removes the effect of length.",
    )
    pruning: Pruning = Field(
        default="never",
        description='When losing candidates are dropped: "never"; all but `keep` after the "first_chunk"; or by '
        '"halving", all but one in `shrink` after each chunk until `keep` are left.',
    )
    until: Until | None = Field(
        default=None,
        description='Candidates are generated in waves until one "passed" the verifier, or until the leading one is '
        '"decided"; None generates all of them. "passed" acts as "decided" where the verifier finds nothing to test.',
    )
    decided_at: float = Field(
        default=0.8,
        ge=0.5,
        lt=1,
        description='With until="decided", or with "passed" and nothing to test, the probability that further '
        "candidates would agree with the leading one.",
    )
    passes: int = Field(
        default=1,
        ge=1,
        description='With until="passed", number of candidates that must pass and agree with one another.',
    )
    keep: int = Field(default=1, ge=1, description="Candidates that survive pruning.")
    shrink: int = Field(default=2, ge=2, description='With pruning="halving", one candidate in this many goes on.')
    min_confidence: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Least estimated probability that the answer is right; an answer below it, or of which nothing can "
        "be estimated, is marked or refused; None refuses nothing.",
    )
    on_low_confidence: Literal["annotate", "error"] = Field(
        default="annotate",
        description="What happens below min_confidence: the selection is marked, or LowConfidenceError is raised.",
    )
    record: bool = Field(
        default=True, description="Whether neurons are recorded; without them only selectors that need none work."
    )

    def wave_size(self, sampling: SamplingConfig) -> int:
        """Return the number of candidates that are generated at a time."""
        default = sampling.n if self.until is None else _WAVES[self.until]
        return min(sampling.n, sampling.wave or default)

    @classmethod
    def paper(cls, *, early_stopping: bool = False) -> NADConfig:
        """Return the config for the paper's neuron agreement (arXiv 2510.26277): Jaccard knn with three neighbors.

        Args:
            early_stopping: Whether all candidates but the chosen one are dropped after the first chunk of 32 tokens.
        """
        return cls(selector="knn", pruning="first_chunk" if early_stopping else "never")

    @field_validator("layers")
    @classmethod
    def _layers_in_order(cls, value: tuple[int, int] | None) -> tuple[int, int] | None:
        if value is not None and not 0 <= value[0] < value[1]:
            msg = f"layers={value} is not a range: give (first, end) with 0 <= first < end, such as (8, 16)"
            raise ValueError(msg)
        return value


class VerificationConfig(FrozenModel):
    """Options for checking the ranking when there is a verifier."""

    parallel: int = Field(default=2, ge=1, description="Candidates checked at a time.")
    max_checks: int | None = Field(
        default=None, ge=1, description="Most candidates that are checked; None checks the whole ranking."
    )
    max_seconds: float | None = Field(
        default=None, gt=0, description="Seconds after which no further check starts; None sets no limit."
    )
    check_all: bool = Field(
        default=False,
        description="Whether all candidates are checked, and those that pass are ranked again by comparing only them; "
        "otherwise the first in rank order that passes wins.",
    )
    on_failure: Literal["best_ranked", "error"] = Field(
        default="best_ranked",
        description="What happens when no candidate passes: the best-ranked answer is returned with its report, or "
        "NoCandidatePassedError is raised.",
    )
