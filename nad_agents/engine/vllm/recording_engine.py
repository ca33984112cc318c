"""What engines over vLLM have in common: which requests they can take, by what vLLM's workers can record."""

from __future__ import annotations

from nad_agents.engine.base import GenerationRequest
from nad_agents.engine.hf.request_checks import check_fits_context
from nad_agents.engine.streamed_engine import StreamedEngine
from nad_agents.engine.vllm.sampling_params import check_supported
from nad_agents.exceptions import ConfigurationError, UnsupportedModelError
from nad_agents.neurons.recording_config import RecordingConfig
from nad_agents.rollouts import NeuronLayout
from nad_agents.selectors.base import Selector

__all__ = ["RecordingEngine"]

_SIGNAL_READERS = ("entropy", "self_certainty", "tail_entropy", "deepconf")
"""Names of the selectors that read more than the tokens, their log-probabilities and their neurons."""


class RecordingEngine(StreamedEngine):
    """An engine whose candidates come from vLLM, run by this process or by a server; subclasses set the attributes.

    Attributes:
        widths: Number of neurons of each layer.
        refusal: Why the model cannot be recorded; empty if it can.
        signals: Whether the workers record the signals of tokens.
    """

    widths: tuple[int, ...]
    refusal: str
    signals: bool

    @property
    def context_length(self) -> int | None:
        """Greatest length of prompt and answer together, in tokens: vLLM's `max_model_len`."""
        return self.loaded.context_length

    @property
    def records_neurons(self) -> bool:
        """Whether the engine can record neurons at all."""
        return True

    def check_selector(self, selector: Selector) -> None:
        """Refuse a selector that reads signals where vLLM's settings do not allow recording them.

        Raises:
            ConfigurationError: The selector reads signals; the message names the setting.
        """
        if not self.signals and selector.name in _SIGNAL_READERS:
            msg = f"the selector {selector.name!r} reads a signal of each token: {self.refusal}"
            raise ConfigurationError(msg)

    def layout(self, recording: RecordingConfig | None) -> NeuronLayout:
        """Return how the recorded neurons are numbered; an empty layout if nothing is recorded.

        Raises:
            UnsupportedModelError: vLLM's model or settings do not allow recording.
            ConfigurationError: The layer range does not fit the model.
        """
        if recording is None:
            return NeuronLayout(0, 0)
        if self.refusal:
            raise UnsupportedModelError(self.refusal)
        count = len(self.widths)
        first, end = recording.layers or (0, count)
        if not 0 <= first < end <= count:
            msg = f"layers={recording.layers} does not fit a model of {count} layers; end at {count} or before"
            raise ConfigurationError(msg)
        return NeuronLayout(end - first, max(self.widths[first:end]), first)

    def check(self, request: GenerationRequest) -> None:
        """Check a request without sending anything.

        Raises:
            PromptError: The prompt has no tokens, or prompt and answer do not fit `max_model_len`.
            UnsupportedModelError: See `layout`.
            ConfigurationError: See `layout`; or vLLM has no counterpart for an option.
        """
        check_fits_context(request, self.context_length, name=self.name)
        check_supported(request)
        self.layout(request.recording)
