"""Decide from its config alone whether a model can be used, and how long its context is."""

from __future__ import annotations

from typing import Any

from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    PreTrainedConfig,
)

from nad_agents.exceptions import UnsupportedModelError

__all__ = ["check_decoder_only", "context_length", "model_factory"]

_OTHER_TASKS = (
    "ForMaskedLM",
    "ForPreTraining",
    "ForQuestionAnswering",
    "ForSequenceClassification",
    "ForTokenClassification",
    "ForMultipleChoice",
    "ForImageClassification",
    "ForCTC",
)
"""Endings of class names of models that do not generate text, even where their family also has one that does."""


def check_decoder_only(config: PreTrainedConfig, name: str) -> None:
    """Check that a model is a decoder-only language model.

    Args:
        config: The model's config.
        name: Name for error messages.

    Raises:
        UnsupportedModelError: The model has an encoder, or a head for another task.
    """
    if config.is_encoder_decoder:
        msg = f"{name} is an encoder-decoder model ({config.model_type}); use a decoder-only one (a 'CausalLM')"
        raise UnsupportedModelError(msg)
    architectures = tuple(config.architectures or ())
    remote = "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {})
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING and not remote:
        what = ", ".join(architectures) or config.model_type
        msg = f"{name} is not a causal language model ({what}); use a decoder-only one (a 'CausalLM')"
        raise UnsupportedModelError(msg)
    if architectures and all(architecture.endswith(_OTHER_TASKS) for architecture in architectures):
        msg = f"{name} was trained for another task ({', '.join(architectures)}); use a decoder-only one (a 'CausalLM')"
        raise UnsupportedModelError(msg)


def model_factory(config: PreTrainedConfig) -> Any:
    """Return the class of transformers that makes the model of a config: that of text, else that of images and text."""
    multimodal = type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
    return AutoModelForImageTextToText if multimodal and not _is_causal(config) else AutoModelForCausalLM


def _is_causal(config: PreTrainedConfig) -> bool:
    remote = "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {})
    return remote or type(config) in MODEL_FOR_CAUSAL_LM_MAPPING


def context_length(config: PreTrainedConfig) -> int | None:
    """Return how many prompt and answer tokens a model takes together; None if its config does not say."""
    text = config.get_text_config(decoder=True)
    for name in ("max_position_embeddings", "n_positions", "max_seq_len"):
        length = getattr(text, name, None)
        if isinstance(length, int) and length > 0:
            return length
    return None
