"""The Hugging Face Hub: check that it can be reached, fetch files, and look into its local cache."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from huggingface_hub import HfApi, constants, hf_hub_download, is_offline_mode, try_to_load_from_cache
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
from nad_agents.models.disk_space import check_disk_space
from nad_agents.models.error_text import one_line_error

__all__ = [
    "RepoKind",
    "check_repo_id",
    "check_space_for_weights",
    "fetch_file",
    "find_in_hub_cache",
    "hub_is_reachable",
    "unreachable_message",
]

_WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""Names of weight files in the order in which transformers looks for them; the first that exists is used."""
_SHARD = re.compile(r"-\d{5}-of-\d{5}\.(?:safetensors|bin)$")
_TIMEOUT_SECONDS = 3.0

RepoKind = Literal["model", "adapter"]
"""What a caller expects of a repository on the hub; messages name it."""

_INSTEAD_OF_THE_HUB: dict[RepoKind, str] = {
    "model": "give a local folder or a GGUF file, or leave out the model: the default one is fetched from PyPI",
    "adapter": "give a folder that PEFT saved (model.save_pretrained), or load it once while the hub can be reached",
}
_INSTEAD_OF_THE_REPO: dict[RepoKind, str] = {
    "model": "if it holds GGUF files, download one and give its path",
    "adapter": "give the id of a LoRA adapter that PEFT saved, or a folder",
}


def check_repo_id(name: str, kind: RepoKind = "model") -> None:
    """Check that a name has the form of a hub id, 'owner/name'.

    Raises:
        ModelLoadError: The name has another form.
    """
    try:
        try_to_load_from_cache(name, "config.json")
    except HFValidationError as error:
        msg = f"{kind}={name!r} is neither a file nor a folder here, nor a hub id of the form 'owner/name'"
        raise ModelLoadError(msg) from error


def hub_is_reachable() -> bool:
    """Return whether the hub answers within three seconds; False at once in offline mode (``HF_HUB_OFFLINE``)."""
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
    """Return a model's folder in the hub's local cache if config, tokenizer and weights are there, else None.

    Args:
        model: A hub id.
        revision: Branch, tag or commit; None for the default branch.
    """
    config = try_to_load_from_cache(model, "config.json", revision=revision)
    tokenizer = try_to_load_from_cache(model, "tokenizer_config.json", revision=revision)
    if not isinstance(config, str) or tokenizer is None:
        return None
    weights = (try_to_load_from_cache(model, name, revision=revision) for name in _WEIGHTS)
    found = next((Path(path) for path in weights if isinstance(path, str)), None)
    return Path(config).parent if found is not None and _is_whole(found) else None


def _is_whole(weights: Path) -> bool:
    """Return whether a file of weights exists, and for an index every file that it names."""
    if weights.suffix != ".json":
        return True
    try:
        shards = json.loads(weights.read_text(encoding="utf-8"))["weight_map"].values()
    except (OSError, ValueError, KeyError, AttributeError):
        return False
    return all((weights.parent / shard).exists() for shard in set(shards))


def check_space_for_weights(model: str, revision: str | None, *, api: HfApi | None = None) -> None:
    """Refuse a model whose weights do not fit on the disk, before they are fetched.

    The check is skipped if the hub does not report the sizes.

    Args:
        model: A hub id.
        revision: Branch, tag or commit.
        api: Client that asks the hub for the sizes; None makes one.

    Raises:
        ModelLoadError: The disk of the hub's local cache has less room than the weights that are not in it yet.
    """
    try:
        info = (api or HfApi()).model_info(model, revision=revision, files_metadata=True, timeout=_TIMEOUT_SECONDS)
    except Exception:  # noqa: BLE001 - of whichever HTTP library the hub's client uses; fetching will say what is wrong
        return
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
    absent = [
        name
        for name in _fetched_weights(list(sizes))
        if not isinstance(try_to_load_from_cache(model, name, revision=info.sha), str)
    ]
    if absent:
        check_disk_space(
            {Path(constants.HF_HUB_CACHE): sum(sizes[name] for name in absent)},
            purpose=f"fetching {model}",
            advice="set HF_HOME to a folder on another disk",
        )


def _fetched_weights(files: Sequence[str]) -> list[str]:
    """Return the weight files that transformers fetches for a model: those of one format outside subfolders."""
    first = next((name for name in _WEIGHTS if name in files), None)
    if first is None or not first.endswith(".json"):
        return [first] if first else []
    stem, suffix = first.removesuffix(".index.json").split(".")
    return [name for name in files if name.startswith(f"{stem}-") and name.endswith(suffix) and _SHARD.search(name)]


def fetch_file(repo: str, file: str, revision: str | None, *, kind: RepoKind = "model") -> Path:
    """Fetch one file of a repository, and return the repository's folder in the hub's local cache.

    Fetching the config first shows whether the repository exists and the user has access to it.

    Args:
        repo: A hub id.
        file: Name of the file.
        revision: Branch, tag or commit; None for the default branch.
        kind: What the repository is to hold.

    Raises:
        ModelLoadError: The repository, revision or file does not exist, is gated, or the hub cannot be reached.
    """
    try:
        return Path(hf_hub_download(repo, file, revision=revision)).parent
    except GatedRepoError as error:
        msg = f"{repo} is gated: accept its terms on its page at {constants.ENDPOINT}/{repo} and run `hf auth login`"
        raise ModelLoadError(msg) from error
    except RepositoryNotFoundError as error:
        msg = f"the hub has no public {kind} {repo!r}: check the spelling, or run `hf auth login` if it is private"
        raise ModelLoadError(msg) from error
    except RevisionNotFoundError as error:
        msg = f"{repo} has no revision {revision!r}; give a branch, tag or commit of that {kind}"
        raise ModelLoadError(msg) from error
    except LocalEntryNotFoundError as error:
        raise ModelLoadError(unreachable_message(repo, kind)) from error
    except EntryNotFoundError as error:
        msg = f"{repo} has no {file} on the hub; {_INSTEAD_OF_THE_REPO[kind]}"
        raise ModelLoadError(msg) from error
    except (HfHubHTTPError, OSError) as error:
        msg = f"{repo} could not be fetched from the hub: {one_line_error(error)}"
        raise ModelLoadError(msg) from error


def unreachable_message(repo: str, kind: RepoKind = "model") -> str:
    """Return the error message for a repository that is not on this machine while the hub cannot be reached."""
    why = "offline mode is set (HF_HUB_OFFLINE)" if is_offline_mode() else f"{constants.ENDPOINT} cannot be reached"
    return (
        f"the {kind} {repo} is not on this machine and {why}: there is no such folder, and no such {kind} in the hub's "
        f"cache at {constants.HF_HUB_CACHE}; {_INSTEAD_OF_THE_HUB[kind]}"
    )
