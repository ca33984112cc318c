"""An OpenAI-compatible server whose answers are the best of N candidates of a local model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nad_agents.lazy_imports import lazy_imports

if TYPE_CHECKING:
    from nad_server.app import create_app
    from nad_server.settings import ServerSettings
    from nad_server.uvicorn_server import serve

__all__ = ["ServerSettings", "create_app", "serve"]

# the `nad` command loads this package at each start, and FastAPI only where it is used
__getattr__, __dir__ = lazy_imports(
    __name__,
    {"ServerSettings": "nad_server.settings", "create_app": "nad_server.app", "serve": "nad_server.uvicorn_server"},
    missing={
        package: f"the server needs {package}; install it with: pip install 'nad-agents[server]'"
        for package in ("fastapi", "prometheus_client", "starlette", "uvicorn")
    },
)
