"""Read config, tokenizer and weights with transformers, turning its errors into ours.

``target`` is what ``from_pretrained`` takes, a hub id or a folder; ``name`` is how error messages call the model; and
``options`` are keywords for ``from_pretrained``.
"""

from __future__ import annotations

from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from nad_agents.exceptions import MissingDependencyError, ModelLoadError
from nad_agents.models.error_text import one_line_error
from nad_agents.models.model_checks import model_factory

__all__ = ["read_config", "read_tokenizer", "read_weights"]


def read_config(target: str, name: str, options: dict[str, Any]) -> PreTrainedConfig:
    """Read a model's config.

    Args:
        target: Folder or hub id of the model.
        name: Name of the model, for messages.
        options: Further arguments of `from_pretrained`, such as the revision.

    Raises:
        ModelLoadError: There is no config, it is damaged, or it needs `trust_remote_code`.
        MissingDependencyError: Reading the config needs a package that is not installed.
    """
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(target, **options)
    except (OSError, ValueError, KeyError, TypeError) as error:
        msg = f"the config of {name} cannot be read: {one_line_error(error)}{_trust_hint(error)}"
        raise ModelLoadError(msg) from error
    except ImportError as error:
        raise MissingDependencyError(_missing_package(name, error)) from error
    return config


def read_tokenizer(target: str, name: str, options: dict[str, Any]) -> PreTrainedTokenizerBase:
    """Read a model's tokenizer.

    Args:
        target: Folder or hub id of the model.
        name: Name of the model, for messages.
        options: Further arguments of `from_pretrained`, such as the revision.

    Raises:
        ModelLoadError: There are no tokenizer files, or they are damaged.
        MissingDependencyError: The tokenizer needs a package that is not installed.
    """
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(target, **options)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        msg = f"{name} has no readable tokenizer: {one_line_error(error)}{_trust_hint(error)}"
        raise ModelLoadError(msg) from error
    except ImportError as error:
        raise MissingDependencyError(_missing_package(name, error)) from error
    if len(tokenizer) == 0 or not tokenizer.encode("a", add_special_tokens=False):
        # transformers makes an empty tokenizer of the model's class when the files are absent
        msg = f"{name} has no tokenizer files; put tokenizer.json and tokenizer_config.json beside the weights"
        raise ModelLoadError(msg)
    return tokenizer


def read_weights(
    target: str, name: str, config: PreTrainedConfig, dtype: torch.dtype, options: dict[str, Any]
) -> PreTrainedModel:
    """Read a model's weights.

    Args:
        target: Hub id or folder.
        name: Name for error messages.
        config: The model's config.
        dtype: Type to convert the weights to.
        options: Further keywords of ``from_pretrained``.

    Raises:
        ModelLoadError: The weights are absent or damaged, or some of those that the config asks for are missing.
        MissingDependencyError: Reading the weights needs a package that is not installed.
    """
    factory = model_factory(config)
    model: PreTrainedModel
    try:
        model, report = factory.from_pretrained(target, config=config, dtype=dtype, output_loading_info=True, **options)
    except ImportError as error:
        raise MissingDependencyError(_missing_package(name, error)) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        msg = f"the weights of {name} cannot be read: {one_line_error(error)}{_trust_hint(error)}"
        raise ModelLoadError(msg) from error
    missing = sorted(report["missing_keys"])
    if missing:
        msg = (
            f"{name} lacks {len(missing)} weights that its config asks for, such as {missing[0]}; "
            f"use a model saved with its language-model head"
        )
        raise ModelLoadError(msg)
    return model


def _trust_hint(error: BaseException) -> str:
    return " (pass trust_remote_code=True if you trust its code)" if "trust_remote_code" in str(error) else ""


def _missing_package(name: str, error: ImportError) -> str:
    return f"{name} needs a package that is not installed: {one_line_error(error)}"
