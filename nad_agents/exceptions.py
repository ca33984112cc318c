"""The exceptions that nad_agents raises.

Each message says what was wrong, with which value, and what to do.

NADError
├── ConfigurationError        a parameter is wrong, or two do not go together (also a ValueError)
│   └── UnknownSelectorError  no selector of that name (also a LookupError)
├── PromptError               the prompt is empty, too long, or refused by the chat template (also a ValueError)
├── ModelLoadError            the model, its tokenizer or its weights could not be loaded
├── UnsupportedModelError     the model has no feed-forward neurons that can be recorded
├── MissingDependencyError    an optional package is absent; the message names the extra (also an ImportError)
├── GenerationError           the model failed while generating
│   └── GenerationCancelledError   the caller cancelled the request
├── RecordingError            a recorder was used outside its context
├── VerificationError         the verifier itself failed, not the candidate
└── NoCandidatePassedError    the verifier rejected every candidate, and the user asked for an error then
"""

from __future__ import annotations

__all__ = [
    "AnswerCutError",
    "ConfigurationError",
    "GenerationCancelledError",
    "GenerationError",
    "GenerationTimeoutError",
    "MissingDependencyError",
    "ModelLoadError",
    "NADError",
    "NoCandidatePassedError",
    "PromptError",
    "RecordingError",
    "UnknownSelectorError",
    "UnsupportedModelError",
    "VerificationError",
]


class NADError(Exception):
    """Root of every exception that nad_agents raises on purpose."""


class ConfigurationError(NADError, ValueError):
    """A parameter has a value that cannot work, or two parameters do not go together."""


class UnknownSelectorError(ConfigurationError, LookupError):
    """No selector is registered under that name."""


class PromptError(NADError, ValueError):
    """The prompt is empty, longer than the context, or refused by the chat template."""


class ModelLoadError(NADError):
    """A model could not be found, fetched, converted or read."""


class UnsupportedModelError(NADError):
    """The model has no feed-forward neurons that the recorder recognises."""


class MissingDependencyError(NADError, ImportError):
    """An optional dependency is not installed; the message names the extra that brings it."""


class GenerationError(NADError):
    """The model failed while generating."""


class GenerationCancelledError(GenerationError):
    """The caller cancelled the request before it finished."""


class RecordingError(NADError):
    """A recorder was used outside its context, or on a model that changed under it."""


class VerificationError(NADError):
    """The verifier itself failed; this says nothing about the candidate."""


class NoCandidatePassedError(NADError):
    """Every candidate that was checked failed, and the caller asked for an error in that case."""


class GenerationTimeoutError(GenerationCancelledError, TimeoutError):
    """The answer took longer than `timeout` seconds and was stopped."""

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"no answer within timeout={seconds:g} seconds; raise timeout, or lower n or max_tokens, "
            "or set pruning='first_chunk'"
        )


class AnswerCutError(NADError):
    """The token limit ended an answer before it had become what `response_format` asks for.

    Attributes:
        text: the answer as far as it came.
    """

    def __init__(self, text: str) -> None:
        super().__init__(
            f"the token limit cut the answer before it fitted response_format: {text!r}; raise max_tokens, "
            "or ask for a pattern that a short answer can fit"
        )
        self.text = text
