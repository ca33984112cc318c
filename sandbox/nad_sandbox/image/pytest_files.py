"""Where pytest lies, for the sandboxes in which tests run under it: the one that is installed beside this package.

pytest and what it needs are pure Python. They are mounted into bubblewrap's sandboxes and copied into images, read-only
to the program, below `PACKAGES`.
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
"""Where they lie in every sandbox; the harness looks there."""

_REQUIRED = ("pytest", "_pytest", "pluggy", "iniconfig", "packaging", "pygments")
_OPTIONAL = ("py", "pytest_asyncio", "typing_extensions", "exceptiongroup", "tomli", "backports.asyncio.runner")
_OLDEST, _FIRST_WITH_GROUPS = (3, 9), (3, 11)
_FETCHED = ("pytest", "pytest-asyncio", "typing-extensions")
_BACKPORTS = ("exceptiongroup", "tomli", "backports-asyncio-runner")
# pytest colors its messages, of which none is read here: of 500 languages two are imported
_LANGUAGES = {"__init__.py", "_mapping.py", "python.py", "diff.py"}


def find_pytest() -> dict[str, Path]:
    """Names below `PACKAGES` and the files or folders of this interpreter that belong there; empty without pytest."""
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
        found[metadata.name] = metadata  # its version is looked up at its import
    return found


def collect_pytest(folder: Path, version: str, machine: str) -> None:
    """Copy pytest and what it needs into a folder; fetch it where what is installed here does not fit.

    Args:
        folder: is made.
        version: of the Python that it is for, such as "3.11.2".
        machine: such as "x86_64".

    Raises:
        SandboxUnavailableError: there is no pytest for that Python, or it cannot be fetched.
    """
    if tuple(map(int, version.split(".")[:2])) < _OLDEST:
        raise SandboxUnavailableError(f"the sandbox has Python {version}, and pytest needs 3.9 or later")
    found = find_pytest()
    if not found or not _fits(version):
        old = tuple(map(int, version.split(".")[:2])) < _FIRST_WITH_GROUPS
        # pip looks at the version of the Python that runs it to see what a package needs
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
    """Whether the pytest that is installed here runs on a Python of this version."""
    from packaging.specifiers import SpecifierSet

    needed = distribution("pytest").metadata["Requires-Python"] or ""
    backports = find_spec("exceptiongroup") and find_spec("tomli")
    return SpecifierSet(needed).contains(version) and (SpecifierSet(">=3.11").contains(version) or bool(backports))


def _left_out(folder: str, names: list[str]) -> set[str]:
    left_out = {name for name in names if name == "__pycache__" or name.endswith(".pyc")}
    if Path(folder).parts[-2:] == ("pygments", "lexers"):
        left_out |= set(names) - _LANGUAGES
    return left_out
