"""The manifest of a run, `run.json`: the settings of its recording, written once and never changed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nad_agents.runs.record_file import FORMAT_VERSION, RunError

__all__ = ["RunManifest", "read_manifest", "write_manifest"]

_NAME = "run.json"


class RunManifest(BaseModel):
    """The settings that every record of a run shares.

    Attributes:
        format_version: Version of the run's files.
        created: UTC time in ISO 8601.
        task: The data set: name, file, checksum, prompt template.
        problems: Ids of all problems in the order of recording, which is shuffled under `order_seed` so that an
            unfinished run is a fair sample.
        order_seed: Seed of that order; None if the problems keep the data set's order.
        model: Name, source, revision or checksum, dtype, device, and numbers of layers and neurons.
        sampling: A `SamplingConfig` as JSON; its seed and a problem's index seed that problem's candidates.
        config: A `NADConfig` as JSON, which says what was recorded.
        versions: Versions of Python and of the packages.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: int = FORMAT_VERSION
    created: str
    task: dict[str, Any]
    problems: tuple[str, ...] = Field(min_length=1)
    order_seed: int | None = None
    model: dict[str, Any]
    sampling: dict[str, Any]
    config: dict[str, Any]
    versions: dict[str, str] = Field(default_factory=dict)

    def differences(self, other: RunManifest) -> list[str]:
        """List the settings that make two runs' records incomparable, as "name: here, there".

        Versions and dates may differ.
        """
        found = []
        for name in ("format_version", "task", "problems", "model", "sampling", "config"):
            here, there = getattr(self, name), getattr(other, name)
            if isinstance(here, dict):
                keys = [key for key in {**here, **there} if here.get(key) != there.get(key)]
                found += [f"{name}.{key}: {here.get(key)!r}, {there.get(key)!r}" for key in keys]
            elif here != there:
                shown = f"{len(here)}, {len(there)}" if isinstance(here, tuple) else f"{here!r}, {there!r}"
                found.append(f"{name}: {shown}")
        return found


def write_manifest(folder: Path, manifest: RunManifest) -> None:
    """Write `run.json` atomically.

    Args:
        folder: The run's folder.
        manifest: The settings of the run.
    """
    partial = folder / f".{_NAME}.partial"
    with partial.open("w", encoding="utf-8") as file:
        json.dump(manifest.model_dump(mode="json"), file, indent=1, ensure_ascii=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    partial.replace(folder / _NAME)


def read_manifest(folder: Path) -> RunManifest:
    """Read `run.json`.

    Raises:
        RunError: The folder holds no run, a damaged one, or one of another format version.
    """
    path = folder / _NAME
    try:
        values: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        msg = f"{folder} holds no recorded run (no {_NAME}); record one with `nad bench --out {folder}`"
        raise RunError(msg) from error
    except NotADirectoryError as error:
        msg = f"{folder} is a file; give the folder of a recorded run"
        raise RunError(msg) from error
    except (OSError, ValueError) as error:
        msg = f"{path} cannot be read: {error}; restore the file, or record again into another folder"
        raise RunError(msg) from error
    version = values.get("format_version") if isinstance(values, dict) else None
    if version != FORMAT_VERSION:
        msg = f"{path} has format version {version}, this version reads {FORMAT_VERSION}; use a matching nad-agents"
        raise RunError(msg)
    try:
        return RunManifest.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        what = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        msg = f"{path} is damaged: {what}; restore the file, or record again into another folder"
        raise RunError(msg) from error
