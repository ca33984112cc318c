"""The models at the border: the settings that a caller gives, and the selection that comes back."""

from nad_agents.types.configs import (
    BEHAVIOUR_SELECTORS,
    DEFAULT_ROWS,
    EngineName,
    NADConfig,
    Pruning,
    SamplingConfig,
    ScoreName,
    Similarity,
    Until,
    VerificationConfig,
)
from nad_agents.types.not_given import NOT_GIVEN, NotGiven
from nad_agents.types.results import Candidate, Selection, Timings, Usage

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
