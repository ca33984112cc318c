"""The exceptions that the library and its integrations raise on purpose.

Each message says what was wrong, with which value, and what to do.

NADError
├── ConfigurationError               a parameter is wrong, or two do not go together (also a ValueError)
│   └── UnknownSelectorError         no selector has that name (also a LookupError)
├── PromptError                      the prompt is empty, too long, or refused by the chat template (also a ValueError)
│   └── PromptTooLongError           prompt and answer exceed the model's context
├── ModelLoadError                   the model, its tokenizer or its weights could not be loaded
├── UnsupportedModelError            the model has no feed-forward neurons that can be recorded
├── MissingDependencyError           an optional package is absent; the message names the extra (also an ImportError)
├── GenerationError                  the model failed while generating
│   └── GenerationCancelledError     the caller cancelled the request
│       └── GenerationTimeoutError   the request took longer than its timeout (also a TimeoutError)
├── RecordingError                   a recorder was used outside its context
├── VerificationError                the verifier itself failed, not the candidate
├── NoCandidatePassedError           the verifier rejected every candidate, and the caller asked for an error then
└── AnswerCutError                   the token limit cut an answer that must have a certain shape
"""

from __future__ import annotations

__all__ = [
    "AnswerCutError",
    "ConfigurationError",
    "GenerationCancelledError",
    "GenerationError",
    "GenerationTimeoutError",
    "LowConfidenceError",
    "MissingDependencyError",
    "ModelLoadError",
    "NADError",
    "NoCandidatePassedError",
    "PromptError",
    "PromptTooLongError",
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
    """No selector is registered under this name."""


class PromptError(NADError, ValueError):
    """The prompt is empty, longer than the context, or refused by the chat template."""


class PromptTooLongError(PromptError):
    """Prompt and answer together exceed the model's context."""


class ModelLoadError(NADError):
    """A model could not be found, fetched, converted or read."""


class UnsupportedModelError(NADError):
    """The model has no feed-forward neurons that the recorder recognizes."""


class MissingDependencyError(NADError, ImportError):
    """An optional dependency is not installed; the message names the extra that brings it."""


class GenerationError(NADError):
    """The model failed while generating."""


class GenerationCancelledError(GenerationError):
    """The caller cancelled the request before it finished."""


class GenerationTimeoutError(GenerationCancelledError, TimeoutError):
    """The request took longer than its `timeout` and was stopped.

    Args:
        seconds: The timeout.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"no answer within timeout={seconds:g} seconds; raise timeout, or lower n or max_tokens, "
            "or set pruning='first_chunk'"
        )


class RecordingError(NADError):
    """A recorder was used outside its context, or without the weights that its score needs."""


class VerificationError(NADError):
    """The verifier itself failed, which says nothing about the candidate."""


class NoCandidatePassedError(NADError):
    """Every candidate that was checked failed, and the caller asked for an error in that case."""


class LowConfidenceError(NADError):
    """The chosen answer is less likely to be right than the caller asked for.

    Args:
        confidence: The estimated probability that the answer is right; None if there is no estimate.
        least: The lowest acceptable probability.

    Attributes:
        confidence: See above.
    """

    def __init__(self, confidence: float | None, least: float | None) -> None:
        found = "cannot be estimated" if confidence is None else f"is about {confidence:.2f}"
        super().__init__(
            f"the probability that the chosen answer is right {found}, and min_confidence={least} was asked for; raise "
            "n, give a verifier, or lower min_confidence"
        )
        self.confidence = confidence


class AnswerCutError(NADError):
    """The token limit ended an answer before it fitted its `response_format`.

    Args:
        text: The answer up to the limit.

    Attributes:
        text: See above.
    """

    def __init__(self, text: str) -> None:
        super().__init__(
            f"the token limit cut the answer before it fitted response_format: {text!r}; raise max_tokens, "
            "or ask for a pattern that a short answer can fit"
        )
        self.text = text
