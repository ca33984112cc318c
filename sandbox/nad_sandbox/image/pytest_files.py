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

__all__ = ["PACKAGES", "copy_pytest", "find_pytest", "pytest_requirements"]

PACKAGES = "/opt/nad-sandbox/packages"
"""Where they lie in every sandbox; the harness looks there."""

_REQUIRED = ("pytest", "_pytest", "pluggy", "iniconfig", "packaging", "pygments")
_OPTIONAL = ("py", "pytest_asyncio", "typing_extensions", "exceptiongroup", "tomli", "backports.asyncio.runner")
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


def copy_pytest(folder: Path) -> bool:
    """Copy pytest and what it needs into a folder; whether it is there to be copied.

    Args:
        folder: is made.
    """
    found = find_pytest()
    for name, path in found.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            shutil.copytree(path, target, ignore=_left_out)
        else:
            shutil.copy(path, target)
    return bool(found)


def pytest_requirements(python: str) -> list[str]:
    """What pip is asked for where an image has a Python that the installed pytest does not run on.

    Args:
        python: the image's version, such as "3.9.2"; empty list: what is installed here runs on it too.
    """
    try:
        needed = distribution("pytest").metadata["Requires-Python"] or ""
        asyncio = f"pytest-asyncio<={version('pytest-asyncio')}"
    except PackageNotFoundError:
        needed, asyncio = ">=99", "pytest-asyncio"
    from packaging.specifiers import SpecifierSet

    return [] if SpecifierSet(needed).contains(python) else ["pytest>=8", asyncio]


def _left_out(folder: str, names: list[str]) -> set[str]:
    left_out = {name for name in names if name == "__pycache__" or name.endswith(".pyc")}
    if Path(folder).parts[-2:] == ("pygments", "lexers"):
        left_out |= set(names) - _LANGUAGES
    return left_out
