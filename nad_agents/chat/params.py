"""The parameters that chat and completion model share: flat, typed, and turned into nad_agents' own configs."""

from __future__ import annotations

import difflib
import os
import uuid
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, SkipValidation, ValidationError

from nad_agents.exceptions import ConfigurationError
from nad_agents.types import NADConfig, Pruning, SamplingConfig, ScoreName, Similarity, VerificationConfig
from nad_agents.verification import Verifier

if TYPE_CHECKING:
    from nad_agents.decoder import NeuronAgreementDecoder

__all__ = ["DecodingFields", "Settings", "check_names", "configuration_error", "object_name", "plain"]


SAMPLING_FIELDS = {
    "n": "n",
    "wave": "wave",
    "max_tokens": "max_new_tokens",
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "repetition_penalty": "repetition_penalty",
    "stop": "stop",
    "seed": "seed",
    "generation_options": "generation",
}
"""Field of the model -> field of SamplingConfig."""

NAD_FIELDS = {
    "selector": "selector",
    "selector_options": "selector_options",
    "similarity": "similarity",
    "score": "score",
    "top_k_neurons": "top_k",
    "top_k_neurons_per_layer": "per_layer_top",
    "layers": "layers",
    "chunk_size": "chunk_size",
    "compare_chunks": "chunks",
    "skip_tokens": "skip_tokens",
    "common_prefix": "common_prefix",
    "pruning": "pruning",
    "keep": "keep",
    "shrink": "shrink",
    "record": "record",
}
"""Field of the model -> field of NADConfig."""

_NULLABLE = {"wave", "min_p", "seed", "layers", "compare_chunks", "timeout"}
"""Where None is a value: no limit, no filter, a fresh seed. Elsewhere it means the default."""

ALIASES = {"model": "model_name", "max_new_tokens": "max_tokens", "stop_sequences": "stop"}

CALL_FIELDS = {*SAMPLING_FIELDS, *NAD_FIELDS, "timeout", "include_candidates", "model_name"}
"""What a single call may change."""


def _path_as_text(value: object) -> object:
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _text_as_list(value: object) -> object:
    if value is None:
        return []
    return [value] if isinstance(value, str) else value


@dataclass(frozen=True)
class Settings:
    """What one call runs with.

    Attributes:
        model: which model; None with a decoder that was given.
        sampling: how candidates are sampled.
        config: what is recorded and how candidates are compared.
        timeout: seconds, None for no limit.
        include_candidates: whether the candidates' texts and the similarity matrix go into the evidence.
    """

    model: str | None
    sampling: SamplingConfig
    config: NADConfig
    timeout: float | None
    include_candidates: bool


class DecodingFields(BaseModel):
    """Parameters of a local model whose answer is chosen among N candidates.

    Every sampling and selection parameter may also be given per call, as in ``chat.invoke(text, n=4, seed=1)`` or
    ``chat.bind(temperature=0.3)``.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, populate_by_name=True)

    model_name: Annotated[str, BeforeValidator(_path_as_text)] = Field(
        default="HuggingFaceTB/SmolLM2-135M-Instruct", alias="model"
    )
    """A hub id, a local folder, or a GGUF file. Weights are loaded at the first call."""
    device: str = "auto"
    """"auto" or a torch device."""
    dtype: str = "auto"
    """"auto", "float32", "bfloat16" or "float16"."""
    decoder: SkipValidation[Any] = Field(default=None, repr=False)
    """A ready `nad_agents.NeuronAgreementDecoder`, instead of model, device and dtype; what it was made with holds
    unless a parameter is given here."""

    n: int | None = None
    """Candidates per answer; None means 8, and 1 for greedy decoding (temperature 0), where all would be the same."""
    wave: int | None = None
    """Generate so many candidates at a time, where n of them do not fit into memory together."""
    max_tokens: int = Field(default=256, validation_alias=AliasChoices("max_tokens", "max_new_tokens"))
    """Token limit of each candidate."""
    temperature: float = 0.8
    top_p: float = 0.95
    top_k: int = 50
    min_p: float | None = None
    repetition_penalty: float = 1.0
    stop: Annotated[list[str], BeforeValidator(_text_as_list)] = Field(
        default_factory=list, validation_alias=AliasChoices("stop", "stop_sequences")
    )
    """Strings that end a candidate; they are no part of the answer."""
    seed: int | None = None
    """Seeds the candidates; None draws a fresh seed, which the response metadata reports."""
    generation_options: dict[str, Any] = Field(default_factory=dict)
    """Any further option of transformers.GenerationConfig."""

    selector: str | Callable[..., Any] | None = None
    """Name of a selector, or a callable from a RolloutGroup to N scores; None means "knn", and "first" when n is 1."""
    selector_options: dict[str, Any] = Field(default_factory=dict)
    similarity: Similarity = "jaccard"
    score: ScoreName = "activation"
    top_k_neurons: int = 500
    """Activated neurons per token."""
    top_k_neurons_per_layer: int = 64
    layers: tuple[int, int] | None = None
    chunk_size: int = 32
    compare_chunks: int | None = None
    """Compare only the first so many chunks."""
    skip_tokens: int = 0
    common_prefix: bool = False
    pruning: Pruning = "never"
    """"first_chunk" drops all but `keep` candidates after the first chunk, "halving" all but one in `shrink` after each
    chunk until `keep` are left; with keep=1 the answer streams from then."""
    keep: int = 1
    shrink: int = 2
    record: bool = True
    """False switches the recorder off, for selectors that need no neurons."""
    nad_config: NADConfig | None = None
    """All of the above from `selector` on in one object."""

    verifier: SkipValidation[Any] = None
    """Judges the answers in rank order until one passes: a sandbox, a linter, anything with
    `nad_agents.verification.Verifier`'s methods."""
    verification: VerificationConfig | None = None
    """How the ranking is walked."""
    include_candidates: bool = False
    """Put the candidates' texts and the similarity matrix into the response metadata."""
    timeout: float | None = Field(default=None, gt=0)
    """Seconds until generation is stopped and GenerationTimeoutError raised; verification has its own limit."""
    max_retries: int = Field(default=0, ge=0)
    """How often a failed generation or a broken verifier is tried again (not what was cancelled or timed out)."""

    def settings(self, overrides: Mapping[str, Any] | None = None) -> Settings:
        """What a call runs with.

        Args:
            overrides: parameters of this call by field name or alias; they win over the model's.

        Raises:
            ConfigurationError: an unknown parameter, a value that cannot work, or two that do not go together.
        """
        overrides = {ALIASES.get(name, name): value for name, value in (overrides or {}).items()}
        check_names(overrides, CALL_FIELDS, f"a call of {type(self).__name__}")
        own = {name: getattr(self, name) for name in self.model_fields_set}
        given = {name: value for name, value in (own | overrides).items() if value is not None or name in _NULLABLE}
        sampling = self._sampling(given)
        # with nad_config the flat parameters are at their defaults, as `check_settings` made sure
        flat = given if self.nad_config is None else overrides
        return Settings(
            model=overrides.get("model_name", self.model_name if self.decoder is None else None),
            sampling=sampling,
            config=self._config(flat, sampling.n),
            timeout=given.get("timeout"),
            include_candidates=given.get("include_candidates", False),
        )

    def _sampling(self, given: Mapping[str, Any]) -> SamplingConfig:
        decoder: NeuronAgreementDecoder | None = self.decoder
        values = (
            {} if decoder is None else {name: getattr(decoder.sampling, name) for name in SamplingConfig.model_fields}
        )
        values |= {SAMPLING_FIELDS[name]: value for name, value in given.items() if name in SAMPLING_FIELDS}
        if given.get("n") is None and values.get("temperature") == 0:
            values["n"] = 1
        return SamplingConfig(**values)

    def _config(self, given: Mapping[str, Any], n: int) -> NADConfig:
        base = self.nad_config or (NADConfig() if self.decoder is None else self.decoder.config)
        values = {name: getattr(base, name) for name in NADConfig.model_fields}
        values |= {NAD_FIELDS[name]: value for name, value in given.items() if name in NAD_FIELDS}
        if n == 1 and given.get("selector") is None and self.nad_config is None:
            # one candidate needs no comparison, hence no recording either
            values |= {"selector": "first", "selector_options": {}, "record": False, "pruning": "never"}
        return NADConfig(**values)

    def check_settings(self) -> None:
        """Refuse what cannot work, without loading anything.

        Raises:
            ConfigurationError: see `settings`; or the selector is unknown or does not fit n.
        """
        if self.nad_config is not None:
            both = [
                name
                for name in NAD_FIELDS
                if getattr(self, name) != type(self).model_fields[name].get_default(call_default_factory=True)
            ]
            if both:
                msg = f"nad_config and {both[0]} are both given; put {both[0]} into nad_config, or leave nad_config out"
                raise ConfigurationError(msg)
        if self.verifier is not None and not isinstance(self.verifier, Verifier):
            msg = (
                f"verifier={self.verifier!r} has no methods verify and fingerprint; "
                "give a sandbox, a nad_sandbox.CodeVerifier, or anything with those of nad_agents.verification.Verifier"
            )
            raise ConfigurationError(msg)
        from nad_agents.selection import check_configuration

        settings = self.settings()
        check_configuration(settings.sampling, settings.config)

    def identity(self) -> dict[str, Any]:
        """Everything that changes an answer, JSON-serialisable: a key for caches, a description for traces."""
        settings = self.settings()
        config = {name: getattr(settings.config, name) for name in NADConfig.model_fields}
        sampling = {name: getattr(settings.sampling, name) for name in SamplingConfig.model_fields}
        verification = self.verification or VerificationConfig()
        return {
            "model_name": self.model_name if self.decoder is None else self.decoder.engine.name,
            "device": self.device,
            "dtype": self.dtype,
            **{field: plain(sampling[name]) for field, name in SAMPLING_FIELDS.items()},
            **{field: plain(config[name]) for field, name in NAD_FIELDS.items()},
            "verifier": object_name(self.verifier),
            "verification": verification.model_dump(mode="json") if self.verifier is not None else None,
            "include_candidates": self.include_candidates,
            "decoder": object_name(self.decoder),
        }


def plain(value: Any) -> Any:
    """A value as JSON has it; what JSON has no form for is named."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return value if value is None or isinstance(value, str | int | float | bool) else object_name(value)


_OBJECT_NAMES: weakref.WeakKeyDictionary[object, str] = weakref.WeakKeyDictionary()


def object_name(thing: object) -> str | None:
    """What tells one object from another: its own repr, or its type and a number that no other object ever has."""
    if thing is None:
        return None
    kind = f"{type(thing).__module__}.{type(thing).__qualname__}"
    if " at 0x" not in repr(thing):
        return f"{kind} {thing!r}"
    # an address would be given to another object later, or by another process, that shares the cache
    try:
        return _OBJECT_NAMES.setdefault(thing, f"{kind} {uuid.uuid4()}")
    except TypeError:
        return f"{kind} {uuid.uuid4()}"


def check_names(given: Iterable[str], known: Iterable[str], where: str) -> None:
    """Refuse a parameter that nobody reads.

    Raises:
        ConfigurationError: names the first unknown parameter and the nearest known one.
    """
    names = sorted(known)
    for name in given:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(names)}"
            msg = f"{where} has no parameter {name!r}; {hint}"
            raise ConfigurationError(msg)


def configuration_error(error: ValidationError, where: str) -> ConfigurationError:
    """What pydantic refused, on one line: which parameter, which value, why."""
    found = []
    for problem in error.errors():
        cause = problem.get("ctx", {}).get("error")
        if isinstance(cause, ConfigurationError):
            found.append(str(cause))
            continue
        name = ".".join(str(part) for part in problem["loc"]) or where
        found.append(f"{name}={problem['input']!r}: {problem['msg'][0].lower()}{problem['msg'][1:]}")
    return ConfigurationError(f"{where}: {'; '.join(found)}")
