"""`LocalModel`: the settings, the decoder and the retries that every front end's model class has."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self, get_args

from pydantic import PrivateAttr, ValidationError, model_validator
from tenacity import AsyncRetrying, Retrying, retry_if_exception, stop_after_attempt

from nad_agents.chat.cache_key import json_value, object_name
from nad_agents.chat.model_fields import ModelFields
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
    sampling_config,
)
from nad_agents.chat.shared_decoders import shared_decoder
from nad_agents.exceptions import ConfigurationError, GenerationCancelledError, GenerationError, VerificationError
from nad_agents.pending import PendingRequest
from nad_agents.types import NADConfig, SamplingConfig, VerificationConfig
from nad_agents.verification import Verifier

if TYPE_CHECKING:
    from nad_agents.chat.prepare import PreparedChat
    from nad_agents.decoder import NeuronAgreementDecoder

__all__ = ["LocalModel"]


@dataclass
class _Loaded:
    """Holds the decoder that a model uses; a copy of it, or one in another process, holds none yet.

    All holders are equal, since two models do not differ by whether their decoders are loaded.
    """

    lock: threading.Lock = field(default_factory=threading.Lock, compare=False)
    decoder: NeuronAgreementDecoder | None = field(default=None, compare=False)

    def __reduce__(self) -> tuple[type[_Loaded], tuple[()]]:
        return _Loaded, ()


class LocalModel(ModelFields):
    """A local model whose answers are chosen among N candidates; the base of each framework's model class.

    Every sampling and selection parameter may also be given per call, as in ``chat.invoke(text, n=4, seed=1)``. With
    `decoder`, parameters that are left out (`verifier` too) come from the decoder; None and an empty list are values:
    ``verifier=None`` checks nothing, ``seed=None`` draws a fresh seed, ``stop=[]`` has no stop strings.

    Two models are equal when their parameters are, whether their weights are loaded or not.

    Raises:
        ConfigurationError: A parameter is unknown, has a value that cannot work, or does not go with another.
    """

    _loaded: _Loaded = PrivateAttr(default_factory=_Loaded)

    base_field_descriptions: ClassVar[Mapping[str, str]] = {}
    """Descriptions of a framework's own fields, where its base class does not describe them."""

    # --- as a class ---

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
        for name in changes.keys() - SAMPLING_FIELDS.keys() - set(NAD_FIELDS):
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
            **{name: json_value(getattr(settings.config, name)) for name in NAD_FIELDS},
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
