"""Decide from its config alone whether a model can be used, and how long its context is."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    GenerationMixin,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_MAPPING_NAMES

from nad_agents.exceptions import ConfigurationError, UnsupportedModelError

__all__ = [
    "check_decoder_only",
    "check_not_embedding",
    "check_one_device",
    "context_length",
    "model_factory",
    "quantization_method",
]

_OTHER_TASKS = re.compile(
    r"\w*(For(MaskedLM|PreTraining|QuestionAnswering|SequenceClassification|TokenClassification|MultipleChoice|"
    r"ImageClassification|CTC|\w*Reward\w*|\w*Regression|\w*Embedding\w*|\w*Retrieval)|Reward\w*|Score\w*)"
)
"""Matches names of classes that do not generate text, even if another class of the family does."""


_HEADLESS = set(MODEL_MAPPING_NAMES.values()) - set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values())
"""Names of classes whose output is the last hidden state."""


def check_decoder_only(config: PreTrainedConfig, name: str) -> None:
    """Check that a model is a decoder-only language model, or that its text decoder can be used alone.

    Args:
        config: The model's config.
        name: Name for error messages.

    Raises:
        UnsupportedModelError: The model encodes its text, or has no language-model head or one for another task.
    """
    text = config.get_text_config(decoder=True)
    if config.is_encoder_decoder or getattr(text, "is_encoder_decoder", False):
        msg = f"{name} is an encoder-decoder model ({config.model_type}); use a decoder-only one (a 'CausalLM')"
        raise UnsupportedModelError(msg)
    architectures = tuple(config.architectures or ())
    if not (_is_causal(config) or _reads_text_alone(config)):
        what = ", ".join(architectures) or config.model_type
        msg = f"{name} is not a causal language model ({what}); use a decoder-only one (a 'CausalLM')"
        raise UnsupportedModelError(msg)
    if architectures and all(_OTHER_TASKS.fullmatch(architecture) for architecture in architectures):
        msg = f"{name} was trained for another task ({', '.join(architectures)}); use a decoder-only one (a 'CausalLM')"
        raise UnsupportedModelError(msg)
    if architectures and not _is_remote(config) and all(map(_is_headless, architectures)):
        msg = (
            f"{name} has no language-model head ({', '.join(architectures)}), as embedding models have none; "
            "use a decoder-only model (a 'CausalLM')"
        )
        raise UnsupportedModelError(msg)


def check_not_embedding(folder: Path, name: str) -> None:
    """Refuse an embedding model that is stored as a causal one, by the files that sentence-transformers adds.

    Args:
        folder: Folder with the model's files.
        name: Name for error messages.

    Raises:
        UnsupportedModelError: The folder has a file that configures the pooling of hidden states.
    """
    modules = folder / "modules.json"
    if modules.is_file() and "Pooling" in modules.read_text(encoding="utf-8", errors="replace"):
        msg = f"{name} is an embedding model (its modules.json pools hidden states); use a model that generates text"
        raise UnsupportedModelError(msg)


def check_one_device(model: PreTrainedModel, name: str) -> None:
    """Refuse a model that accelerate has spread over several devices, or of which a part is on the disk.

    Args:
        model: The model.
        name: Name for error messages.

    Raises:
        ConfigurationError: The model's `device_map` names more than one place.
    """
    places: Any = getattr(model, "hf_device_map", None) or {}
    found = sorted({str(place) for place in places.values()})
    if len(found) > 1 or "disk" in found:
        msg = (
            f"{name} is spread over {', '.join(found)} by its device_map, and engine='hf' runs a model on one device; "
            "load it without device_map, or let engine='vllm' spread it (engine_options={'tensor_parallel_size': 2})"
        )
        raise ConfigurationError(msg)


def model_factory(config: PreTrainedConfig) -> Any:
    """Return transformers' class for a config: the text-only class if there is one, else that for images and text."""
    return AutoModelForCausalLM if _is_causal(config) else AutoModelForImageTextToText


def _is_remote(config: PreTrainedConfig) -> bool:
    return "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {})


def _is_causal(config: PreTrainedConfig) -> bool:
    return _is_remote(config) or type(config) in MODEL_FOR_CAUSAL_LM_MAPPING


def _reads_text_alone(config: PreTrainedConfig) -> bool:
    """Return whether a model for images and text can generate from token ids alone."""
    if type(config) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        return False
    kind: Any = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING[type(config)]
    parameters = dict(inspect.signature(kind.forward).parameters)
    required = {
        parameter
        for parameter, details in parameters.items()
        if details.default is details.empty and details.kind is details.POSITIONAL_OR_KEYWORD
    }
    generates = issubclass(kind, GenerationMixin) and parameters.keys() >= {"input_ids", "past_key_values"}
    return generates and required <= {"self", "input_ids"}


def _is_headless(architecture: str) -> bool:
    return architecture.endswith("Model") and architecture in _HEADLESS


def context_length(config: PreTrainedConfig) -> int | None:
    """Return how many prompt and answer tokens a model takes together; None if its config does not say."""
    text = config.get_text_config(decoder=True)
    for name in ("max_position_embeddings", "n_positions", "max_seq_len"):
        length = getattr(text, name, None)
        if isinstance(length, int) and length > 0:
            return length
    return None


def quantization_method(config: PreTrainedConfig) -> str | None:
    """Return the name of the quantization method of a model's weights; None for plain weights."""
    found = getattr(config, "quantization_config", None)
    if found is None:
        return None
    method = found.get("quant_method") if isinstance(found, dict) else getattr(found, "quant_method", None)
    return str(getattr(method, "value", method))
