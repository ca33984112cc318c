"""The folders that runs and reports are written to."""

from __future__ import annotations

from pathlib import Path

from nad_agents.exceptions import ConfigurationError

__all__ = ["check_run_folder", "make_folder"]


def make_folder(folder: Path) -> None:
    """Make a folder with its parents, unless it exists.

    Args:
        folder: The folder.

    Raises:
        ConfigurationError: A file has this name, or the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        msg = f"{folder} is a file; give the name of a folder"
        raise ConfigurationError(msg) from error
    except OSError as error:
        msg = f"the folder {folder} cannot be made: {error.strerror}; give another one"
        raise ConfigurationError(msg) from error


def check_run_folder(folder: Path, *, resume: bool) -> None:
    """Make the folder of a run that is to be recorded, before a model is loaded for it.

    Args:
        folder: The folder.
        resume: Whether to continue a run that exists.

    Raises:
        ConfigurationError: The folder cannot be made, or a run exists and `resume` is False.
    """
    make_folder(folder)
    if not resume and (folder / "run.json").exists():
        msg = f"{folder} holds a run already; resume it (--resume), or record into another folder"
        raise ConfigurationError(msg)
