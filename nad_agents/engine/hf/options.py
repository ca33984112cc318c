"""The options of the engine "hf", which callers give as `engine_options`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nad_agents.engine.hf.captured.graphs import graphs_for
from nad_agents.exceptions import ConfigurationError
from nad_agents.models import resolve_device

__all__ = ["HFEngineOptions"]


class HFEngineOptions(BaseModel):
    """Options of the engine over transformers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    compile: Literal["auto"] | bool = Field(
        default="auto",
        description="Whether decoding steps are captured in CUDA graphs: where exact and faster, always, or never.",
    )

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> HFEngineOptions:
        """Read options by name.

        Raises:
            ConfigurationError: An option is unknown or has a value that it cannot have.
        """
        try:
            return cls(**values)
        except ValidationError as error:
            problem = error.errors()[0]
            known = ", ".join(cls.model_fields)
            msg = f"engine_options[{str(problem['loc'][0])!r}] of engine='hf': {problem['msg']}; it has: {known}"
            raise ConfigurationError(msg) from error

    def check_device(self, device: str) -> None:
        """Refuse a device on which nothing can be captured although that is required, before weights are loaded.

        Raises:
            ConfigurationError: See above; or the device does not exist.
        """
        if self.compile is True and graphs_for(found := resolve_device(device)) is None:
            msg = f"compile=True captures CUDA graphs, and the device is {found}; leave it out"
            raise ConfigurationError(msg)
