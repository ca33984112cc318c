"""Best-of-N for local Hugging Face models: sample N answers and return the one whose neurons agree with the others.

>>> from nad_agents import NeuronAgreementDecoder, SamplingConfig
>>> decoder = NeuronAgreementDecoder()  # doctest: +SKIP
>>> decoder.decode("Write a haiku.", sampling=SamplingConfig(n=8)).text  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nad_agents._version import __version__
from nad_agents.lazy_imports import lazy_imports

if TYPE_CHECKING:
    from nad_agents.decoder import NeuronAgreementDecoder
    from nad_agents.events import (
        CandidateGrowth,
        Compared,
        DecodingEvent,
        Finished,
        Progress,
        Pruned,
        Ranking,
        TextDelta,
        Verified,
        WinnerChosen,
    )
    from nad_agents.exceptions import (
        AnswerCutError,
        ConfigurationError,
        GenerationCancelledError,
        GenerationError,
        GenerationTimeoutError,
        LowConfidenceError,
        MissingDependencyError,
        ModelLoadError,
        NADError,
        NoCandidatePassedError,
        PromptError,
        RecordingError,
        UnknownSelectorError,
        UnsupportedModelError,
        VerificationError,
    )
    from nad_agents.models import DEFAULT_MODEL, LoadedModel, load_model
    from nad_agents.rollouts import NeuronLayout, Rollout, RolloutGroup
    from nad_agents.selectors import available_selectors, register_selector
    from nad_agents.types import (
        Candidate,
        NADConfig,
        SamplingConfig,
        Selection,
        Timings,
        Usage,
        VerificationConfig,
    )

__all__ = [
    "DEFAULT_MODEL",
    "AnswerCutError",
    "Candidate",
    "CandidateGrowth",
    "Compared",
    "ConfigurationError",
    "DecodingEvent",
    "Finished",
    "GenerationCancelledError",
    "GenerationError",
    "GenerationTimeoutError",
    "LoadedModel",
    "LowConfidenceError",
    "MissingDependencyError",
    "ModelLoadError",
    "NADConfig",
    "NADError",
    "NeuronAgreementDecoder",
    "NeuronLayout",
    "NoCandidatePassedError",
    "Progress",
    "PromptError",
    "Pruned",
    "Ranking",
    "RecordingError",
    "Rollout",
    "RolloutGroup",
    "SamplingConfig",
    "Selection",
    "TextDelta",
    "Timings",
    "UnknownSelectorError",
    "UnsupportedModelError",
    "Usage",
    "VerificationConfig",
    "VerificationError",
    "Verified",
    "WinnerChosen",
    "__version__",
    "available_selectors",
    "load_model",
    "register_selector",
]

# importing pydantic, numpy or torch takes up to seconds, in which the command `nad` could not be interrupted properly
__getattr__, __dir__ = lazy_imports(
    __name__,
    {
        "NeuronAgreementDecoder": "nad_agents.decoder",
        "CandidateGrowth": "nad_agents.events",
        "Compared": "nad_agents.events",
        "DecodingEvent": "nad_agents.events",
        "Finished": "nad_agents.events",
        "Progress": "nad_agents.events",
        "Pruned": "nad_agents.events",
        "Ranking": "nad_agents.events",
        "TextDelta": "nad_agents.events",
        "Verified": "nad_agents.events",
        "WinnerChosen": "nad_agents.events",
        "AnswerCutError": "nad_agents.exceptions",
        "ConfigurationError": "nad_agents.exceptions",
        "GenerationCancelledError": "nad_agents.exceptions",
        "GenerationError": "nad_agents.exceptions",
        "GenerationTimeoutError": "nad_agents.exceptions",
        "LowConfidenceError": "nad_agents.exceptions",
        "MissingDependencyError": "nad_agents.exceptions",
        "ModelLoadError": "nad_agents.exceptions",
        "NADError": "nad_agents.exceptions",
        "NoCandidatePassedError": "nad_agents.exceptions",
        "PromptError": "nad_agents.exceptions",
        "RecordingError": "nad_agents.exceptions",
        "UnknownSelectorError": "nad_agents.exceptions",
        "UnsupportedModelError": "nad_agents.exceptions",
        "VerificationError": "nad_agents.exceptions",
        "DEFAULT_MODEL": "nad_agents.models",
        "LoadedModel": "nad_agents.models",
        "load_model": "nad_agents.models",
        "NeuronLayout": "nad_agents.rollouts",
        "Rollout": "nad_agents.rollouts",
        "RolloutGroup": "nad_agents.rollouts",
        "available_selectors": "nad_agents.selectors",
        "register_selector": "nad_agents.selectors",
        "Candidate": "nad_agents.types",
        "NADConfig": "nad_agents.types",
        "SamplingConfig": "nad_agents.types",
        "Selection": "nad_agents.types",
        "Timings": "nad_agents.types",
        "Usage": "nad_agents.types",
        "VerificationConfig": "nad_agents.types",
    },
)
