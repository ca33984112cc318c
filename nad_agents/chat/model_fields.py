"""`ModelFields`: the parameters of every front end's model class, derived from the options of the configs."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, SkipValidation

from nad_agents.chat.params import option
from nad_agents.types import EngineName, NADConfig, Pruning, ScoreName, Similarity, Until, VerificationConfig

__all__ = ["ModelFields"]


def _path_to_str(value: object) -> object:
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _to_list(value: object) -> object:
    if value is None:
        return []
    return [value] if isinstance(value, str) else value


class ModelFields(BaseModel):  # noqa: PLW1641 - no more hashable than any other pydantic model
    """The parameters of a local model, and how two models are compared and shown by them."""

    model_config = ConfigDict(arbitrary_types_allowed=True, populate_by_name=True)

    model_name: Annotated[str, BeforeValidator(_path_to_str)] = Field(
        default="HuggingFaceTB/SmolLM2-135M-Instruct",
        alias="model",
        description="Hugging Face Hub id, local folder, or GGUF file; weights are loaded at the first call.",
    )
    adapter: Annotated[str | None, BeforeValidator(_path_to_str)] = Field(
        default=None,
        description="LoRA adapter that PEFT saved, a folder or a hub id; None runs the model as it is.",
    )
    device: str = Field(default="auto", description='"auto" or a torch device.')
    dtype: str = Field(default="auto", description='"auto", "float32", "bfloat16" or "float16".')
    engine: EngineName = Field(
        default="hf",
        description='What runs the model: transformers in this process ("hf"), or vLLM in processes of its own.',
    )
    engine_options: dict[str, Any] = Field(
        default_factory=dict,
        description='Options of the engine: {"compile": False} for "hf", those of vllm.EngineArgs for "vllm".',
    )
    decoder: SkipValidation[Any] = Field(
        default=None,
        repr=False,
        description="A `nad_agents.NeuronAgreementDecoder` to use instead of model, adapter, device and dtype; what it "
        "was made with holds for every parameter that is left out.",
    )

    # --- sampling ---

    n: int | None = option(
        "n", default=None, note="None means {default}, or the decoder's number; and 1 where temperature is 0."
    )
    wave: int | None = option("wave")
    max_tokens: int = option("max_tokens", validation_alias=AliasChoices("max_tokens", "max_new_tokens"))
    temperature: float = option("temperature")
    top_p: float = option("top_p")
    top_k: int = option("top_k")
    min_p: float | None = option("min_p")
    repetition_penalty: float = option("repetition_penalty")
    stop: Annotated[list[str], BeforeValidator(_to_list)] = option(
        "stop", default_factory=list, validation_alias=AliasChoices("stop", "stop_sequences")
    )
    seed: int | None = option("seed")
    generation_options: dict[str, Any] = option("generation_options")

    # --- selection ---

    selector: str | Callable[..., Any] | None = option(
        "selector", default=None, note='None means {default!r}, or the decoder\'s selector; and "first" where n is 1.'
    )
    selector_options: dict[str, Any] = option("selector_options")
    similarity: Similarity = option("similarity")
    score: ScoreName = option("score")
    top_k_neurons: int = option("top_k_neurons")
    top_k_neurons_per_layer: int = option("top_k_neurons_per_layer")
    layers: tuple[int, int] | None = option("layers")
    router_weights: bool = option("router_weights")
    chunk_size: int = option("chunk_size")
    compare_chunks: int | None = option("compare_chunks")
    skip_tokens: int = option("skip_tokens")
    common_prefix: bool = option("common_prefix")
    pruning: Pruning = option("pruning", note="With keep=1 the answer streams from then on.")
    until: Until | None = option("until")
    decided_at: float = option("decided_at")
    passes: int = option("passes")
    keep: int = option("keep")
    shrink: int = option("shrink")
    min_confidence: float | None = option("min_confidence")
    on_low_confidence: Literal["annotate", "error"] = option("on_low_confidence")
    record: bool = option("record")
    nad_config: NADConfig | None = Field(
        default=None, description="All options of NADConfig in one object, instead of the fields from `selector` on."
    )

    # --- verification and calls ---

    verifier: SkipValidation[Any] = Field(
        default=None,
        description="Judges the answers in rank order until one passes: a sandbox, a linter, or anything with the "
        "methods of `nad_agents.verification.Verifier`; None trusts the ranking.",
    )
    verification: VerificationConfig | None = Field(
        default=None, description="How the ranking is walked with a verifier; None takes the defaults."
    )
    include_candidates: bool = Field(
        default=False, description="Whether the evidence holds the candidates' texts and the similarity matrix."
    )
    timeout: float | None = Field(
        default=None,
        gt=0,
        description="Seconds until generation is stopped and GenerationTimeoutError raised; None sets no limit, and "
        "verification has its own.",
    )
    max_retries: int = Field(
        default=0,
        ge=0,
        description="Number of times a failed generation or a broken verifier is tried again; a cancelled or timed-out "
        "call is not.",
    )

    hidden_in_repr: ClassVar[frozenset[str]] = frozenset()
    """Fields that a framework's base class fills in by itself."""

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        # a field that neither was given may hold an object of each one's own, such as a callback manager
        given = self.model_fields_set | other.model_fields_set
        return all(getattr(self, name) == getattr(other, name) for name in given)

    def __repr_args__(self) -> list[tuple[str | None, Any]]:
        return [
            (name, getattr(self, name))
            for name, field in type(self).model_fields.items()
            if name in self.model_fields_set - self.hidden_in_repr
            and field.repr
            and getattr(self, name) != field.get_default(call_default_factory=True)
        ]
