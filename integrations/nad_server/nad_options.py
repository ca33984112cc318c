"""The `nad` object of a request: how many candidates there are and how one of them is chosen."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from nad_agents.config_fields import optional_field
from nad_agents.types import NADConfig, Pruning, SamplingConfig, ScoreName, Similarity, Until

__all__ = ["SUFFIX_OPTIONS", "NADOptions"]


class NADOptions(BaseModel):
    """Options that OpenAI's protocol has no parameter for.

    An option that is left out or null keeps the value that the server was started with.
    """

    model_config = ConfigDict(extra="forbid")

    n: int | None = optional_field(SamplingConfig, "n")
    selector: str | None = optional_field(
        NADConfig, "selector", description="Name of a registered selector.", max_length=64
    )
    selector_options: dict[str, bool | int | float | str] | None = optional_field(NADConfig, "selector_options")
    similarity: Similarity | None = optional_field(NADConfig, "similarity")
    score: ScoreName | None = optional_field(NADConfig, "score")
    # without a limit, a stranger's request could take all of the server's memory
    top_k_neurons: int | None = optional_field(NADConfig, "top_k_neurons", le=100_000)
    top_k_neurons_per_layer: int | None = optional_field(NADConfig, "top_k_neurons_per_layer", le=100_000)
    layers: tuple[int, int] | None = optional_field(NADConfig, "layers")
    router_weights: bool | None = optional_field(NADConfig, "router_weights")
    chunk_size: int | None = optional_field(NADConfig, "chunk_size", le=4096)
    compare_chunks: int | None = optional_field(NADConfig, "compare_chunks")
    skip_tokens: int | None = optional_field(NADConfig, "skip_tokens")
    common_prefix: bool | None = optional_field(NADConfig, "common_prefix")
    pruning: Pruning | None = optional_field(NADConfig, "pruning")
    until: Until | None = optional_field(NADConfig, "until")
    decided_at: float | None = optional_field(NADConfig, "decided_at")
    passes: int | None = optional_field(NADConfig, "passes")
    keep: int | None = optional_field(NADConfig, "keep")
    shrink: int | None = optional_field(NADConfig, "shrink")
    min_confidence: float | None = optional_field(NADConfig, "min_confidence")
    on_low_confidence: Literal["annotate", "error"] | None = optional_field(NADConfig, "on_low_confidence")
    record: bool | None = optional_field(NADConfig, "record")
    verify: bool | None = Field(
        default=None,
        description="Whether candidates are checked in the server's sandbox: false leaves the checks out, true refuses "
        "the request where the server has no sandbox.",
    )
    include_candidates: bool = Field(
        default=False,
        description="Whether the evidence holds every candidate with its text, and their similarities.",
    )

    @property
    def config_changes(self) -> dict[str, Any]:
        """The given options that are fields of `NADConfig`, by name."""
        given = {name: getattr(self, name) for name in NADConfig.model_fields}
        return {name: value for name, value in given.items() if value is not None}


SUFFIX_OPTIONS = set(NADOptions.model_fields) - {"selector_options", "layers"}
"""The options that can follow a model's name, as in ``name@n=16,selector=medoid``; each has a single value."""
