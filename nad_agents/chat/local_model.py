"""`LocalModel`: the parameters, the decoder and the retries that every front end's model class has."""

from __future__ import annotations

import inspect
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SkipValidation,
    ValidationError,
    model_validator,
)
from tenacity import AsyncRetrying, Retrying, retry_if_exception, stop_after_attempt

from nad_agents.chat.cache_key import json_value, object_name
from nad_agents.chat.params import (
    ALIASES,
    CALL_FIELDS,
    NAD_FIELDS,
    SAMPLING_FIELDS,
    Settings,
    check_names,
    configuration_error,
    field_value,
    fields_of_decoder,
    fields_section,
    nad_config,
    option,
    sampling_config,
)
from nad_agents.chat.shared_decoders import shared_decoder
from nad_agents.exceptions import ConfigurationError, GenerationCancelledError, GenerationError, VerificationError
from nad_agents.pending import PendingRequest
from nad_agents.types import (
    EngineName,
    NADConfig,
    Pruning,
    SamplingConfig,
    ScoreName,
    Similarity,
    Until,
    VerificationConfig,
)
from nad_agents.verification import Verifier

if TYPE_CHECKING:
    from nad_agents.chat.prepare import PreparedChat
    from nad_agents.decoder import NeuronAgreementDecoder

__all__ = ["LocalModel"]


def _path_to_str(value: object) -> object:
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _to_list(value: object) -> object:
    if value is None:
        return []
    return [value] if isinstance(value, str) else value


@dataclass
class _Loaded:
    """Holds the decoder that a model uses; a copy of it, or one in another process, holds none yet.

    All holders are equal, since two models do not differ by whether their decoders are loaded.
    """

    lock: threading.Lock = field(default_factory=threading.Lock, compare=False)
    decoder: NeuronAgreementDecoder | None = field(default=None, compare=False)

    def __reduce__(self) -> tuple[type[_Loaded], tuple[()]]:
        return _Loaded, ()


class LocalModel(BaseModel):  # noqa: PLW1641 - no more hashable than any other pydantic model
    """A local model whose answers are chosen among N candidates; the base of each framework's model class.

    Every sampling and selection parameter may also be given per call, as in ``chat.invoke(text, n=4, seed=1)``. With
    `decoder`, parameters that are left out (`verifier` too) come from the decoder; None and an empty list are values:
    ``verifier=None`` checks nothing, ``seed=None`` draws a fresh seed, ``stop=[]`` has no stop strings.

    Two models are equal when their parameters are, whether their weights are loaded or not.

    Raises:
        ConfigurationError: A parameter is unknown, has a value that cannot work, or does not go with another.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, populate_by_name=True)

    model_name: Annotated[str, BeforeValidator(_path_to_str)] = Field(
        default="HuggingFaceTB/SmolLM2-135M-Instruct",
        alias="model",
        description="Hugging Face Hub id, local folder, or GGUF file; weights are loaded at the first call.",
    )
    adapter: Annotated[str | None, BeforeValidator(_path_to_str)] = Field(
        default=None,
        description="LoRA adapter that PEFT saved, a folder or a hub id; None runs the model as it is.",
    )
    device: str = Field(default="auto", description='"auto" or a torch device.')
    dtype: str = Field(default="auto", description='"auto", "float32", "bfloat16" or "float16".')
    engine: EngineName = Field(
        default="hf",
        description='What runs the model: transformers in this process ("hf"), or vLLM in processes of its own.',
    )
    engine_options: dict[str, Any] = Field(
        default_factory=dict,
        description='Options of the engine; for "vllm" those of vllm.EngineArgs, such as {"max_model_len": 4096}.',
    )
    decoder: SkipValidation[Any] = Field(
        default=None,
        repr=False,
        description="A `nad_agents.NeuronAgreementDecoder` to use instead of model, adapter, device and dtype; what it "
        "was made with holds for every parameter that is left out.",
    )

    # --- sampling ---

    n: int | None = option(
        "n", default=None, note="None means {default}, or the decoder's number; and 1 where temperature is 0."
    )
    wave: int | None = option("wave")
    max_tokens: int = option("max_tokens", validation_alias=AliasChoices("max_tokens", "max_new_tokens"))
    temperature: float = option("temperature")
    top_p: float = option("top_p")
    top_k: int = option("top_k")
    min_p: float | None = option("min_p")
    repetition_penalty: float = option("repetition_penalty")
    stop: Annotated[list[str], BeforeValidator(_to_list)] = option(
        "stop", default_factory=list, validation_alias=AliasChoices("stop", "stop_sequences")
    )
    seed: int | None = option("seed")
    generation_options: dict[str, Any] = option("generation_options")

    # --- selection ---

    selector: str | Callable[..., Any] | None = option(
        "selector", default=None, note='None means {default!r}, or the decoder\'s selector; and "first" where n is 1.'
    )
    selector_options: dict[str, Any] = option("selector_options")
    similarity: Similarity = option("similarity")
    score: ScoreName = option("score")
    top_k_neurons: int = option("top_k_neurons")
    top_k_neurons_per_layer: int = option("top_k_neurons_per_layer")
    layers: tuple[int, int] | None = option("layers")
    router_weights: bool = option("router_weights")
    chunk_size: int = option("chunk_size")
    compare_chunks: int | None = option("compare_chunks")
    skip_tokens: int = option("skip_tokens")
    common_prefix: bool = option("common_prefix")
    pruning: Pruning = option("pruning", note="With keep=1 the answer streams from then on.")
    until: Until | None = option("until")
    decided_at: float = option("decided_at")
    passes: int = option("passes")
    keep: int = option("keep")
    shrink: int = option("shrink")
    min_confidence: float | None = option("min_confidence")
    on_low_confidence: Literal["annotate", "error"] = option("on_low_confidence")
    record: bool = option("record")
    nad_config: NADConfig | None = Field(
        default=None, description="All options of NADConfig in one object, instead of the fields from `selector` on."
    )

    # --- verification and calls ---

    verifier: SkipValidation[Any] = Field(
        default=None,
        description="Judges the answers in rank order until one passes: a sandbox, a linter, or anything with the "
        "methods of `nad_agents.verification.Verifier`; None trusts the ranking.",
    )
    verification: VerificationConfig | None = Field(
        default=None, description="How the ranking is walked with a verifier; None takes the defaults."
    )
    include_candidates: bool = Field(
        default=False, description="Whether the evidence holds the candidates' texts and the similarity matrix."
    )
    timeout: float | None = Field(
        default=None,
        gt=0,
        description="Seconds until generation is stopped and GenerationTimeoutError raised; None sets no limit, and "
        "verification has its own.",
    )
    max_retries: int = Field(
        default=0,
        ge=0,
        description="Number of times a failed generation or a broken verifier is tried again; a cancelled or timed-out "
        "call is not.",
    )

    _loaded: _Loaded = PrivateAttr(default_factory=_Loaded)

    base_field_descriptions: ClassVar[Mapping[str, str]] = {}
    """Descriptions of a framework's own fields, where its base class does not describe them."""

    hidden_in_repr: ClassVar[frozenset[str]] = frozenset()
    """Fields that a framework's base class fills in by itself."""

    # --- as a class and as a value ---

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Describe every field in the class's docstring, so that `help` shows them."""
        super().__pydantic_init_subclass__(**kwargs)
        for name, description in cls.base_field_descriptions.items():
            cls.model_fields[name].description = description
        own = inspect.cleandoc(cls.__dict__.get("__doc__") or "")
        names = sorted(cls.model_fields, key=lambda name: name in cls.base_field_descriptions)
        cls.__doc__ = f"{own}\n\n{fields_section(cls, names)}\n".lstrip()

    if not TYPE_CHECKING:  # a typed __init__ would hide the fields' own signature

        def __init__(self, **data: Any) -> None:
            known = {*type(self).model_fields, *ALIASES}
            # configurable_fields copies a model's __dict__, cached properties included
            check_names([name for name in data if not name.startswith("_")], known, type(self).__name__)
            try:
                super().__init__(**data)
            except ValidationError as error:
                raise configuration_error(error, type(self).__name__) from error

    def model_post_init(self, context: Any, /) -> None:
        """Call the base class's `model_post_init`, which this class's private attributes would otherwise replace."""
        super().model_post_init(context)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        # a field that neither was given may hold an object of each one's own, such as a callback manager
        given = self.model_fields_set | other.model_fields_set
        return all(getattr(self, name) == getattr(other, name) for name in given)

    def __repr_args__(self) -> list[tuple[str | None, Any]]:
        return [
            (name, getattr(self, name))
            for name, field in type(self).model_fields.items()
            if name in self.model_fields_set - self.hidden_in_repr
            and field.repr
            and getattr(self, name) != field.get_default(call_default_factory=True)
        ]

    # --- parameters ---

    @property
    def effective_model_name(self) -> str:
        """Name of the model: that of the decoder where one was given, else `model_name`."""
        return self.model_name if self.decoder is None else str(self.decoder.engine.name)

    @model_validator(mode="after")
    def _check_local_model(self) -> Self:
        self._inherit_from_decoder()
        self.check_settings()
        return self

    def _inherit_from_decoder(self) -> None:
        """Take parameters that were left out from the decoder that the model was given."""
        if self.decoder is not None:
            if not hasattr(self.decoder, "submit"):
                msg = f"decoder={self.decoder!r} is no NeuronAgreementDecoder; give one, or model= instead"
                raise ConfigurationError(msg)
            inherited = fields_of_decoder(self.decoder, with_config=self.nad_config is None)
            self.__dict__.update({n: value for n, value in inherited.items() if n not in self.model_fields_set})

    def settings(self, overrides: Mapping[str, Any] | None = None) -> Settings:
        """Combine the model's parameters with those of one call.

        Args:
            overrides: Parameters of the call by field name or alias; they win over the model's. None leaves the
                model's value, unless None is a value of the field.

        Raises:
            ConfigurationError: A parameter is unknown, has a value that cannot work, or does not go with another.
        """
        overrides = {ALIASES.get(name, name): value for name, value in (overrides or {}).items()}
        check_names(overrides, CALL_FIELDS, f"a call of {type(self).__name__}")
        fields = type(self).model_fields
        changes = {
            name: value
            for name, value in overrides.items()
            if value is not None or type(None) in get_args(fields[name].annotation)
        }
        for name in changes.keys() - SAMPLING_FIELDS.keys() - NAD_FIELDS.keys():
            # the configs check the other parameters
            changes[name] = field_value(type(self), name, changes[name])
        values = {name: getattr(self, name) for name in CALL_FIELDS} | changes
        decoder = self.decoder
        sampling = sampling_config(values, SamplingConfig() if decoder is None else decoder.sampling)
        if self.nad_config is not None:
            # the flat fields are at their defaults then, as `check_settings` made sure
            config = nad_config(changes, self.nad_config, compare=True)
        else:
            config = nad_config(values, NADConfig() if decoder is None else decoder.config, compare=sampling.n > 1)
        return Settings(
            model=changes.get("model_name", self.model_name if decoder is None else None),
            sampling=sampling,
            config=config,
            timeout=values["timeout"],
            include_candidates=values["include_candidates"],
            verifier=self.verifier,
            verification=self.verification,
        )

    def check_settings(self) -> None:
        """Refuse parameters that cannot work, without loading anything.

        Raises:
            ConfigurationError: A value is out of bounds, two parameters do not go together, the selector is unknown
                or does not fit n, or the verifier is none.
        """
        if self.decoder is not None and self.adapter is not None:
            msg = "adapter= and decoder= are both given; make the decoder with the adapter, or give model= instead"
            raise ConfigurationError(msg)
        if self.nad_config is not None:
            fields = type(self).model_fields
            both = [f for f in NAD_FIELDS if getattr(self, f) != fields[f].get_default(call_default_factory=True)]
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
        """Return everything that changes an answer as JSON-serializable data, for cache keys and traces."""
        settings = self.settings()
        verification = settings.verification or VerificationConfig()
        return {
            "model_name": self.effective_model_name,
            "adapter": self.adapter,
            "device": self.device,
            "dtype": self.dtype,
            "engine": self.engine,
            "engine_options": json_value(self.engine_options),
            **{field: json_value(getattr(settings.sampling, name)) for field, name in SAMPLING_FIELDS.items()},
            **{field: json_value(getattr(settings.config, name)) for field, name in NAD_FIELDS.items()},
            "verifier": object_name(settings.verifier),
            "verification": verification.model_dump(mode="json") if settings.verifier is not None else None,
            "include_candidates": self.include_candidates,
            "decoder": object_name(self.decoder),
        }

    # --- decoding ---

    def get_decoder(self, model: str | None = None) -> NeuronAgreementDecoder:
        """Return the decoder behind this model, and load it if need be.

        The decoder is shared with every other model in this process that has the same name, adapter, device, dtype
        and engine.

        Args:
            model: Another model for one call, on the same device, in the same dtype and engine, and without an adapter.

        Raises:
            ModelLoadError: The model cannot be loaded.
            ConfigurationError: Another model is asked of an instance that was given a decoder.
        """
        if model is not None and (self.decoder is not None or model != self.model_name):
            if self.decoder is not None:
                msg = f"model={model!r} for one call does not go with decoder=; make another {type(self).__name__}"
                raise ConfigurationError(msg)
            return self._shared_decoder(model)
        with self._loaded.lock:
            if self._loaded.decoder is None:
                self._loaded.decoder = self.decoder or self._shared_decoder(self.model_name, self.adapter)
            return self._loaded.decoder

    def _shared_decoder(self, model: str, adapter: str | None = None) -> NeuronAgreementDecoder:
        return shared_decoder(
            model,
            device=self.device,
            dtype=self.dtype,
            adapter=adapter,
            engine=self.engine,
            engine_options=self.engine_options,
        )

    def submit(self, prepared: PreparedChat, settings: Settings, *, streaming: bool) -> PendingRequest:
        """Queue one prepared prompt and return at once.

        Args:
            prepared: The prompt, with the grammar and the verifier of its candidates.
            settings: Settings of the call.
            streaming: Whether the caller reads events.

        Raises:
            NADError: See `NeuronAgreementDecoder.submit`.
        """
        return self.get_decoder(settings.model).submit(
            [prepared.prompt],
            sampling=settings.sampling,
            config=settings.config,
            verifier=prepared.verifier,
            verification=settings.verification,
            raw=prepared.raw,
            tools=prepared.tools,
            chat_template_kwargs=prepared.chat_template_kwargs,
            logits_processors=prepared.logits_processors,
            visible_tokens=prepared.visible_tokens,
            parse_special_tokens=prepared.parse_special_tokens,
            streaming=streaming,
            timeout=settings.timeout,
        )[0]

    def _retrying(self) -> Retrying:
        return Retrying(
            stop=stop_after_attempt(self.max_retries + 1), retry=retry_if_exception(_is_transient), reraise=True
        )

    def _aretrying(self) -> AsyncRetrying:
        return AsyncRetrying(
            stop=stop_after_attempt(self.max_retries + 1), retry=retry_if_exception(_is_transient), reraise=True
        )


def _is_transient(error: BaseException) -> bool:
    """Return whether the same call may succeed next time: not after a wrong parameter, a cancellation or a timeout."""
    failed = isinstance(error, GenerationError | VerificationError)
    return failed and not isinstance(error, GenerationCancelledError)
