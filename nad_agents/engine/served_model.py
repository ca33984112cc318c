"""`ServedModel`: a model whose weights are in another process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from nad_agents.models import ModelSource
from nad_agents.types import EngineName

if TYPE_CHECKING:
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

__all__ = ["ServedModel"]


@dataclass(frozen=True)
class ServedModel:
    """A model that another process runs, with the properties of `nad_agents.models.LoadedModel` that front ends use.

    Attributes:
        tokenizer: The model's tokenizer.
        name: Short name for display.
        source: Where the weights came from.
        path: Folder that the weights were read from.
        context_length: Maximum number of prompt and answer tokens together; None if the config does not say.
        vocabulary_size: Number of logits, which may exceed the size of the tokenizer.
        end_tokens: Tokens that end a candidate.
        architecture: Class name of the model.
        dtype: Name of the weights' dtype.
        device: Name of the device.
        engine: Name of the engine that runs the model.
        revision: Hub revision that the caller named; None for the default branch and for local models.
        adapter: Folder or hub id of the LoRA adapter that changes the weights; None if there is none.
    """

    tokenizer: PreTrainedTokenizerBase
    name: str
    source: ModelSource | Literal["server"]
    path: Path
    context_length: int | None
    vocabulary_size: int
    end_tokens: tuple[int, ...]
    architecture: str
    dtype: str
    device: str
    engine: EngineName
    revision: str | None = None
    adapter: str | None = None
