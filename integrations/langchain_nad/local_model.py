"""What chat and completion model share beyond their parameters: the decoder, submitting, retrying."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from pydantic import PrivateAttr, ValidationError
from tenacity import AsyncRetrying, Retrying, retry_if_exception, stop_after_attempt

from langchain_nad.decoders import shared_decoder
from langchain_nad.errors import check_names, configuration_error
from langchain_nad.fields import ALIASES, DecodingFields, Settings
from langchain_nad.runs import Run
from nad_agents.exceptions import ConfigurationError, GenerationCancelledError, GenerationError, VerificationError

if TYPE_CHECKING:
    from nad_agents.decoder import NeuronAgreementDecoder
    from nad_agents.prompts import Prompt

__all__ = ["LocalModel"]


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
        self, decoder: NeuronAgreementDecoder, prompt: Prompt, settings: Settings, *, streaming: bool, **options: Any
    ) -> Run:
        """Queue one prompt; the options are those of `NeuronAgreementDecoder.submit`."""
        options = {"verifier": self.verifier, "verification": self.verification, **options}
        pending = decoder.submit(
            [prompt],
            sampling=settings.sampling,
            config=settings.config,
            streaming=streaming,
            **options,
        )[0]
        return Run(pending, settings.timeout)

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
