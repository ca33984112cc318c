"""What chat and completion model share beyond their parameters: the decoder, submitting, retrying."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import Field, PrivateAttr, ValidationError
from tenacity import AsyncRetrying, Retrying, retry_if_exception, stop_after_attempt

from nad_agents.chat.output_spec import OUTPUT_ARGUMENTS, OutputSpec
from nad_agents.chat.params import ALIASES, DecodingFields, Settings, check_names, configuration_error, plain
from nad_agents.chat.prepare import PreparedChat
from nad_agents.exceptions import ConfigurationError, GenerationCancelledError, GenerationError, VerificationError
from nad_agents.pending import PendingRequest

if TYPE_CHECKING:
    from nad_agents.decoder import NeuronAgreementDecoder

__all__ = ["ChatFields", "LocalModel", "shared_decoder", "unload_models"]


class _Loaded:
    """What a model has loaded; a deep copy of it, or one in another process, has loaded nothing yet."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.decoder: NeuronAgreementDecoder | None = None

    def __reduce__(self) -> tuple[type[_Loaded], tuple[()]]:
        return _Loaded, ()


class LocalModel(DecodingFields):
    """A local model behind a LangChain interface.

    Raises:
        ConfigurationError: a parameter is unknown, has a value that cannot work, or does not go with another.
    """

    _loaded: _Loaded = PrivateAttr(default_factory=_Loaded)

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
        """Let the LangChain base do its part, which private attributes of a mixin would otherwise cut off."""
        super().model_post_init(context)

    def get_decoder(self, model: str | None = None) -> NeuronAgreementDecoder:
        """The decoder behind this model, shared with others of the same model, device and dtype; loads it if need be.

        Args:
            model: another model for one call, on the same device and in the same dtype.

        Raises:
            ModelLoadError: the model cannot be loaded.
            ConfigurationError: another model is asked of an instance that was given a decoder.
        """
        if model is not None and (self.decoder is not None or model != self.model_name):
            if self.decoder is not None:
                msg = f"model={model!r} for one call does not go with decoder=; make another {type(self).__name__}"
                raise ConfigurationError(msg)
            return shared_decoder(model, self.device, self.dtype)
        with self._loaded.lock:
            if self._loaded.decoder is None:
                self._loaded.decoder = self.decoder or shared_decoder(self.model_name, self.device, self.dtype)
            found: NeuronAgreementDecoder = self._loaded.decoder
        return found

    def submit(
        self, decoder: NeuronAgreementDecoder, prepared: PreparedChat, settings: Settings, *, streaming: bool
    ) -> PendingRequest:
        """Queue one prepared prompt and return at once."""
        return decoder.submit(
            [prepared.prompt],
            sampling=settings.sampling,
            config=settings.config,
            verifier=prepared.verifier,
            verification=self.verification,
            raw=prepared.raw,
            tools=prepared.tools,
            template_options=prepared.template_options,
            logits_processors=prepared.logits_processors,
            visible_tokens=prepared.visible_tokens,
            streaming=streaming,
            timeout=settings.timeout,
        )[0]

    def _retrying(self) -> Retrying:
        return Retrying(
            stop=stop_after_attempt(self.max_retries + 1), retry=retry_if_exception(_may_pass), reraise=True
        )

    def _aretrying(self) -> AsyncRetrying:
        return AsyncRetrying(
            stop=stop_after_attempt(self.max_retries + 1), retry=retry_if_exception(_may_pass), reraise=True
        )


def _may_pass(error: BaseException) -> bool:
    """Whether the same call may succeed the next time: not after a wrong parameter, a cancellation or a timeout."""
    transient = isinstance(error, GenerationError | VerificationError)
    return transient and not isinstance(error, GenerationCancelledError)


class ChatFields(LocalModel):
    """A local model that answers conversations.

    Raises:
        ConfigurationError: see `LocalModel`.
    """

    chat_template_kwargs: dict[str, Any] = Field(default_factory=dict)
    """Variables of the model's chat template, such as ``{"enable_thinking": False}`` for Qwen3; those of a call are
    added to them, and win."""

    def identity(self) -> dict[str, Any]:
        """See `DecodingFields.identity`."""
        return {**super().identity(), "chat_template_kwargs": plain(self.chat_template_kwargs)}

    def take_output_spec(self, arguments: dict[str, Any]) -> OutputSpec:
        """What a call asks for; takes those arguments out that say it.

        Raises:
            ConfigurationError: see `OutputSpec.from_arguments`; or the variables of the template are no dict.
        """
        asked: Mapping[str, Any] = {name: arguments.pop(name, None) for name in OUTPUT_ARGUMENTS}
        if not isinstance(asked["chat_template_kwargs"], Mapping | None):
            msg = f"chat_template_kwargs={asked['chat_template_kwargs']!r} is no dict of variables"
            raise ConfigurationError(msg)
        variables = {**self.chat_template_kwargs, **(asked["chat_template_kwargs"] or {})}
        return OutputSpec.from_arguments({**asked, "chat_template_kwargs": variables})


Key = tuple[str, str, str]


@dataclass(eq=False)
class _Slot:
    """A model that is loaded, or being loaded under the lock."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    decoder: NeuronAgreementDecoder | None = None


_SLOTS: dict[Key, _Slot] = {}

_SLOTS_LOCK = threading.Lock()


def shared_decoder(model: str, device: str, dtype: str) -> NeuronAgreementDecoder:
    """The process's decoder for a model; loads it at the first call, once, however many threads ask.

    Args:
        model: a hub id, a folder, a GGUF file.
        device: "auto" or a torch device.
        dtype: "auto" or the name of a torch dtype.

    Raises:
        ModelLoadError: the model cannot be loaded; the next call tries again.
        ConfigurationError: no such device or dtype.
    """
    # torch and transformers take seconds to import, so not before a model is needed
    from nad_agents.decoder import NeuronAgreementDecoder
    from nad_agents.models import resolve_device, resolve_dtype

    where = resolve_device(device)
    kind = resolve_dtype(dtype, where)
    with _SLOTS_LOCK:
        slot = _SLOTS.setdefault((model, str(where), str(kind)), _Slot())
    with slot.lock:
        if slot.decoder is None:
            slot.decoder = NeuronAgreementDecoder(model, device=str(where), dtype=kind)
        return slot.decoder


def unload_models() -> int:
    """Forget every shared model, so that its memory is freed once no chat model holds it; returns how many there were.

    Chat models that answered before keep theirs until they are garbage themselves.
    """
    with _SLOTS_LOCK:
        loaded = sum(slot.decoder is not None for slot in _SLOTS.values())
        _SLOTS.clear()
    return loaded
