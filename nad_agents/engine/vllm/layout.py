"""Number the neurons that vLLM's workers record."""

from __future__ import annotations

from collections.abc import Sequence

from nad_agents.exceptions import ConfigurationError, UnsupportedModelError
from nad_agents.neurons.recording_config import RecordingConfig
from nad_agents.rollouts import NeuronLayout

__all__ = ["layout_of"]


def layout_of(recording: RecordingConfig | None, widths: Sequence[int], refusal: str) -> NeuronLayout:
    """Return how the recorded neurons are numbered; an empty layout if nothing is recorded.

    Args:
        recording: Which neurons are recorded; None records nothing.
        widths: Number of neurons of each layer.
        refusal: Why the model cannot be recorded; empty if it can.

    Raises:
        UnsupportedModelError: vLLM's model or settings do not allow recording.
        ConfigurationError: The layer range does not fit the model.
    """
    if recording is None:
        return NeuronLayout(0, 0)
    if refusal:
        raise UnsupportedModelError(refusal)
    first, end = recording.layers or (0, len(widths))
    if not 0 <= first < end <= len(widths):
        count = len(widths)
        msg = f"layers={recording.layers} does not fit a model of {count} layers; end at {count} or before"
        raise ConfigurationError(msg)
    return NeuronLayout(end - first, max(widths[first:end]), first)
