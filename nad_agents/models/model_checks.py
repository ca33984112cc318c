"""Decide from its config alone whether a model can be used, and how long its context is."""

from __future__ import annotations

from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, PreTrainedConfig

from nad_agents.exceptions import UnsupportedModelError

__all__ = ["check_decoder_only", "context_length", "quantization_method"]

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


def context_length(config: PreTrainedConfig) -> int | None:
    """Return how many prompt and answer tokens a model takes together; None if its config does not say."""
    text = config.get_text_config(decoder=True)
    for name in ("max_position_embeddings", "n_positions", "max_seq_len"):
        length = getattr(text, name, None)
        if isinstance(length, int) and length > 0:
            return length
    return None


def quantization_method(config: PreTrainedConfig) -> str | None:
    """Return the name of the method that a model's weights are quantized with; None for plain weights."""
    found = getattr(config, "quantization_config", None)
    if found is None:
        return None
    method = found.get("quant_method") if isinstance(found, dict) else getattr(found, "quant_method", None)
    return str(getattr(method, "value", method))
