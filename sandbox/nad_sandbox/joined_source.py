"""Join modules of this package to the source of one program, which is sent into a sandbox where the package is not."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib import resources

__all__ = ["joined_source", "module_source"]

_FUTURE = "from __future__ import annotations\n"


def joined_source(package: str, files: Iterable[str]) -> str:
    """Return the source of a program that is made of several modules, which share one namespace.

    Args:
        package: The modules' package.
        files: Names of the modules' files in the order in which they run.
    """
    return _FUTURE + "\n".join(module_source(package, file) for file in files)


def module_source(package: str, file: str) -> str:
    """Return a module's source without its imports from the same package, for a program that has these modules' names.

    It is without the import of annotations as well, which has to be a program's first line.
    """
    text = resources.files(package).joinpath(file).read_text(encoding="utf-8")
    own_import = rf"^from {re.escape(package)}\.\w+ import (\([^)]*\).*|.*)$"
    return re.sub(own_import, "", text, flags=re.MULTILINE).replace(_FUTURE, "")
