"""An OpenAI-compatible server whose answers are the best of N candidates of a local model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nad_server.app import create_app
    from nad_server.settings import ServerSettings
    from nad_server.uvicorn_server import serve

__all__ = ["ServerSettings", "create_app", "serve"]

_LAZY = {"ServerSettings": "nad_server.settings", "create_app": "nad_server.app", "serve": "nad_server.uvicorn_server"}
_EXTRA = {"fastapi", "prometheus_client", "starlette", "uvicorn"}
"""The packages that the extra `server` brings."""


def __getattr__(name: str) -> Any:
    """Import FastAPI at its first use, since the `nad` command loads this package at each start.

    Raises:
        MissingDependencyError: The extra `server` is not installed.
    """
    if name not in _LAZY:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    from importlib import import_module

    try:
        return getattr(import_module(_LAZY[name]), name)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in _EXTRA:
            raise
        from nad_agents.exceptions import MissingDependencyError

        msg = f"the server needs {error.name}; install it with: pip install 'nad-agents[server]'"
        raise MissingDependencyError(msg) from error


def __dir__() -> list[str]:
    return sorted(__all__)
