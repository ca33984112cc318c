"""Find or fetch the pytest that runs tests in sandboxes, preferably the one installed beside this package.

pytest and its dependencies are pure Python. They are mounted into bubblewrap's sandboxes or copied into images, below
`PACKAGES`, where the program can only read them.
"""

from __future__ import annotations

import contextlib
import shutil
from importlib.metadata import PackageNotFoundError, distribution, version
from importlib.util import find_spec
from pathlib import Path

from nad_sandbox.base import SandboxUnavailableError
from nad_sandbox.image.wheels import fetch_wheels

__all__ = ["PACKAGES", "collect_pytest", "find_pytest"]

PACKAGES = "/opt/nad-sandbox/packages"
"""Folder of pytest and its dependencies in every sandbox; the harness imports them from there."""

_REQUIRED = ("pytest", "_pytest", "pluggy", "iniconfig", "packaging", "pygments")
_OPTIONAL = ("py", "pytest_asyncio", "typing_extensions", "exceptiongroup", "tomli", "backports.asyncio.runner")
_OLDEST, _FIRST_WITH_GROUPS = (3, 9), (3, 11)
_FETCHED = ("pytest", "pytest-asyncio", "typing-extensions")
_BACKPORTS = ("exceptiongroup", "tomli", "backports-asyncio-runner")
# pytest imports two of pygments' 500 lexers to color its messages, which nobody reads here
_LANGUAGES = {"__init__.py", "_mapping.py", "python.py", "diff.py"}


def find_pytest() -> dict[str, Path]:
    """Return this interpreter's files and folders of pytest, by their names below `PACKAGES`; empty without pytest."""
    found = {}
    for name in (*_REQUIRED, *_OPTIONAL):
        try:
            spec = find_spec(name)
        except ModuleNotFoundError:
            spec = None
        if spec is not None and spec.origin is not None:
            path = Path(spec.origin)
            path = path.parent if path.name == "__init__.py" else path
            found[name.replace(".", "/") + path.suffix] = path
        elif name in _REQUIRED:
            return {}
    with contextlib.suppress(PackageNotFoundError):
        metadata = Path(
            str(distribution("pytest-asyncio").locate_file(f"pytest_asyncio-{version('pytest-asyncio')}.dist-info"))
        )
        found[metadata.name] = metadata  # a package looks its version up when it is imported
    return found


def collect_pytest(folder: Path, version: str, machine: str) -> None:
    """Copy pytest and its dependencies into a folder, or fetch them when the installed ones do not fit.

    Args:
        folder: Folder to create.
        version: Version of the Python that will run pytest, such as "3.11.2".
        machine: Architecture of the machine, such as "x86_64".

    Raises:
        SandboxUnavailableError: There is no pytest for that Python, or it cannot be fetched.
    """
    if tuple(map(int, version.split(".")[:2])) < _OLDEST:
        raise SandboxUnavailableError(f"the sandbox has Python {version}, and pytest needs 3.9 or later")
    found = find_pytest()
    if not found or not _fits(version):
        old = tuple(map(int, version.split(".")[:2])) < _FIRST_WITH_GROUPS
        # pip evaluates the dependencies of a package for the Python that runs pip, not for the target
        fetch_wheels([*_FETCHED, *(_BACKPORTS if old else ())], folder, version, machine)
        return
    for name, path in found.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            shutil.copytree(path, target, ignore=_left_out)
        else:
            shutil.copy(path, target)


def _fits(version: str) -> bool:
    """Return whether the pytest that is installed here runs on a Python of this version."""
    from packaging.specifiers import SpecifierSet

    needed = distribution("pytest").metadata["Requires-Python"] or ""
    backports = find_spec("exceptiongroup") and find_spec("tomli")
    return SpecifierSet(needed).contains(version) and (SpecifierSet(">=3.11").contains(version) or bool(backports))


def _left_out(folder: str, names: list[str]) -> set[str]:
    left_out = {name for name in names if name == "__pycache__" or name.endswith(".pyc")}
    if Path(folder).parts[-2:] == ("pygments", "lexers"):
        left_out |= set(names) - _LANGUAGES
    return left_out
