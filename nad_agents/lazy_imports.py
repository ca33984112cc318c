"""Packages that import their slow or optional modules at the first use of a name, as PEP 562 allows."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

__all__ = ["lazy_imports"]


def lazy_imports(
    package: str, modules: Mapping[str, str], *, missing: Mapping[str, str] | None = None
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the `__getattr__` and `__dir__` of a package, some of whose names are imported at their first use.

    `__getattr__` raises MissingDependencyError if an optional package named in `missing` is not installed. `__dir__`
    returns the package's `__all__`.

    Args:
        package: The package's `__name__`.
        modules: Maps each name to the module that defines it.
        missing: Maps top-level packages that may not be installed to the message that says how to install them;
            ``{name}`` in a message stands for the name that was asked for.
    """
    messages = missing or {}

    def __getattr__(name: str) -> Any:  # noqa: N807
        if name not in modules:
            msg = f"module {package!r} has no attribute {name!r}"
            raise AttributeError(msg)
        try:
            return getattr(import_module(modules[name]), name)
        except ModuleNotFoundError as error:
            message = messages.get((error.name or "").partition(".")[0])
            if message is None:
                raise
            from nad_agents.exceptions import MissingDependencyError

            raise MissingDependencyError(message.format(name=name)) from error

    def __dir__() -> list[str]:  # noqa: N807
        return sorted(sys.modules[package].__all__)

    return __getattr__, __dir__
