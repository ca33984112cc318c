"""The models at the border: the settings that a caller gives, and the selection that comes back."""

from __future__ import annotations

import difflib
import enum
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from nad_agents.exceptions import ConfigurationError
from nad_agents.rollouts import FinishReason

__all__ = [
    "BEHAVIOUR_SELECTORS",
    "DEFAULT_ROWS",
    "NOT_GIVEN",
    "Candidate",
    "EngineName",
    "NADConfig",
    "NotGiven",
    "Pruning",
    "SamplingConfig",
    "ScoreName",
    "Selection",
    "Similarity",
    "Timings",
    "Until",
    "Usage",
    "VerificationConfig",
]


class NotGiven(enum.Enum):
    """The type of `NOT_GIVEN`, which stands for an argument that was left out where None is a value of its own."""

    NOT_GIVEN = "NOT_GIVEN"

    def __repr__(self) -> str:
        return self.name


NOT_GIVEN: Final = NotGiven.NOT_GIVEN
"""Stands for an argument that was left out, so that the decoder's or the model's own setting holds."""

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


class _Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    if not TYPE_CHECKING:  # a typed __init__ would hide the fields' own signature

        def __init__(self, **data: Any) -> None:
            try:
                super().__init__(**data)
            except ValidationError as error:
                raise ConfigurationError(_one_line(error, type(self))) from error


def _one_line(error: ValidationError, model: type[BaseModel]) -> str:
    """Return on one line what is wrong and with which value; for an unknown name, the nearest known one."""
    found = []
    for problem in error.errors():
        name = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            near = difflib.get_close_matches(name, model.model_fields, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(model.model_fields)}"
            found.append(f"unknown parameter {name!r}{hint}")
        elif problem["type"] == "value_error":
            found.append(str(problem["ctx"]["error"]))
        else:
            message = problem["msg"][0].lower() + problem["msg"][1:]
            found.append(f"{name}={problem['input']!r}: {message}")
    return "; ".join(found)


BEHAVIOUR_SELECTORS = ("behaviour", "behaviour_groups")
"""Names of the selectors that compare what the candidates' programs do, for which they need a runner."""

Until = Literal["passed", "decided"]
"""Rule for stopping before n candidates are sampled: when one passes the verifier, or when the leading one is decided
by the criterion of adaptive consistency (arXiv 2305.11860)."""

_WAVES = {"passed": 2, "decided": 4}
"""Number of candidates per wave if sampling may stop early; a smaller number saves more tokens but takes more time."""


class SamplingConfig(_Config):
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


class NADConfig(_Config):
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


class VerificationConfig(_Config):
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


class Candidate(_Config):
    """One candidate as the caller sees it.

    Attributes:
        index: Position among the samples.
        rank: Position in the ranking, 0 for the best.
        score: The selector's score; higher is better; comparable within one selection only.
        text: The answer, without special tokens and stop string.
        tokens: Number of generated tokens, the end token included.
        activated_neurons: Number of unique activated neurons over the compared tokens; None if nothing was recorded.
        agreement: Mean similarity to the other candidates; None if nothing was recorded or there is no other.
        mean_logprob: Mean log-probability per token in nats.
        finish_reason: Why the candidate ended.
        verdict: The verifier's verdict; None if the candidate was not checked.
    """

    index: int
    rank: int
    score: float
    text: str
    tokens: int
    activated_neurons: int | None = None
    agreement: float | None = None
    mean_logprob: float | None = None
    finish_reason: FinishReason = "length"
    verdict: dict[str, Any] | None = None


class Usage(_Config):
    """Token counts of a request.

    Attributes:
        prompt_tokens: Tokens of the prompt, counted once, as the prompt is prefilled once.
        generated_tokens: Tokens generated by all candidates.
        winner_tokens: Tokens generated by the winner.
        saved_tokens: Estimate of what pruning and early stopping saved: for each dropped candidate the tokens to the
            length of the longest survivor, and for each one that was not generated the mean length of the others.
        cached_tokens: Tokens of the prompt that were not read again, since an earlier prompt began with them.
    """

    prompt_tokens: int
    generated_tokens: int
    winner_tokens: int
    saved_tokens: int = 0
    cached_tokens: int = 0


class Timings(_Config):
    """Wall-clock seconds of a request.

    Attributes:
        queued: Seconds of waiting for the engine.
        prefill: Seconds of reading the prompt.
        decode: Seconds of generating the candidates.
        select: Seconds of ranking them.
        verify: Seconds of verifying them.
    """

    queued: float = 0.0
    prefill: float = 0.0
    decode: float = 0.0
    select: float = 0.0
    verify: float = 0.0


class Selection(_Config):
    """The answer to one prompt, with the evidence for it.

    Attributes:
        text: The winner's text.
        winner: Index of the chosen candidate.
        ranking: Candidate indices, best first; pruned candidates last.
        candidates: Every candidate, in index order.
        selector: Name of the selector that ranked the candidates; for ``auto``, of the one that it chose.
        seed: The seed of the call; the same call with this seed gives the same candidates.
        similarity_matrix: N x N similarities, rows in index order; None if no neurons were recorded.
        usage: Token counts.
        timings: Seconds per phase.
        verified: True if the winner passed the verifier, False if no candidate did, None without a verifier.
        confidence: Estimated probability that the winner is right; None without calibrated evidence
            (`nad_agents.confidence`).
        low_confidence: Whether the confidence is below the required minimum; None if there is no minimum.
        model: Name of the model.
        details: The selector's own evidence (clusters, groups) as JSON-serializable data.
    """

    text: str
    winner: int
    ranking: tuple[int, ...]
    candidates: tuple[Candidate, ...]
    selector: str
    seed: int
    similarity_matrix: tuple[tuple[float, ...], ...] | None = None
    usage: Usage
    timings: Timings = Timings()
    verified: bool | None = None
    confidence: float | None = None
    low_confidence: bool | None = None
    model: str = ""
    details: dict[str, Any] = Field(default_factory=dict)

    @property
    def best(self) -> Candidate:
        """The chosen candidate."""
        return self.candidates[self.winner]
