"""Options of a request for the plugin in the workers; they are sent as one JSON text in vLLM's `extra_args`."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nad_agents.neurons.recording_config import RecordingConfig

__all__ = ["EXTRA_ARG", "RequestOptions"]

EXTRA_ARG = "nad"
"""Key of the options in `SamplingParams.extra_args`, and in `vllm_xargs` of an HTTP request."""


class RequestOptions(BaseModel):
    """Options for recording one request of vLLM.

    Attributes:
        record: Whether the activated neurons are recorded; the token-level signals always are.
        top_k_neurons: Number of activated neurons per token.
        top_k_neurons_per_layer: Largest number of activated neurons per token from one layer.
        layers: (first, end) of the recorded decoder layers; None records all.
        key: Name under which the caller fetches the recorded data; empty if the caller knows the request's id.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    record: bool = True
    top_k_neurons: int = Field(default=500, ge=1)
    top_k_neurons_per_layer: int = Field(default=64, ge=1)
    layers: tuple[int, int] | None = None
    key: str = ""

    @classmethod
    def of(cls, recording: RecordingConfig | None) -> RequestOptions:
        """Return the options of a request that records with a config, or records nothing if the config is None."""
        if recording is None:
            return cls(record=False)
        return cls(
            top_k_neurons=recording.top_k_neurons,
            top_k_neurons_per_layer=recording.top_k_neurons_per_layer,
            layers=recording.layers,
        )

    @classmethod
    def parse(cls, text: object) -> RequestOptions | str:
        """Parse the options of a request; return the reason as text if they are invalid."""
        try:
            return cls.model_validate_json(text if isinstance(text, str | bytes) else repr(text))
        except ValidationError as error:
            problem = error.errors()[0]
            place = ".".join(str(part) for part in problem["loc"]) or EXTRA_ARG
            return f"{place}: {problem['msg']}"

    @property
    def recording(self) -> RecordingConfig | None:
        """The recording config of these options; None if nothing is recorded."""
        if not self.record:
            return None
        return RecordingConfig("activation", self.top_k_neurons, self.top_k_neurons_per_layer, self.layers)
