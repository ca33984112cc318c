"""Best-of-N for local Hugging Face models: sample N answers and return the one whose neurons agree with the others.

>>> from nad_agents import NeuronAgreementDecoder, SamplingConfig
>>> decoder = NeuronAgreementDecoder()  # doctest: +SKIP
>>> decoder.decode("Write a haiku.", sampling=SamplingConfig(n=8)).text  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nad_agents._version import __version__
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
from nad_agents.lazy_imports import lazy_imports
from nad_agents.rollouts import NeuronLayout, Rollout, RolloutGroup
from nad_agents.types import (
    Candidate,
    NADConfig,
    SamplingConfig,
    Selection,
    Timings,
    Usage,
    VerificationConfig,
)

if TYPE_CHECKING:
    from nad_agents.decoder import NeuronAgreementDecoder
    from nad_agents.models import DEFAULT_MODEL, LoadedModel, load_model
    from nad_agents.selectors import available_selectors, register_selector

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

# these need torch, transformers or scikit-learn, whose imports take seconds
__getattr__, __dir__ = lazy_imports(
    __name__,
    {
        "NeuronAgreementDecoder": "nad_agents.decoder",
        "DEFAULT_MODEL": "nad_agents.models",
        "LoadedModel": "nad_agents.models",
        "load_model": "nad_agents.models",
        "available_selectors": "nad_agents.selectors",
        "register_selector": "nad_agents.selectors",
    },
)
