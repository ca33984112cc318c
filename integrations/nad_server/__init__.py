"""An OpenAI-compatible server whose answers are the best of N candidates of a local model."""

from __future__ import annotations

try:
    from nad_server.app import create_app
    from nad_server.settings import ServerSettings
except ModuleNotFoundError as error:
    if (error.name or "").split(".")[0] not in {
        "fastapi",
        "starlette",
        "uvicorn",
        "prometheus_client",
        "langchain_core",
    }:
        raise
    from nad_agents.exceptions import MissingDependencyError

    msg = f"the server needs {error.name}; install it with: pip install 'nad-agents[server]'"
    raise MissingDependencyError(msg) from error

__all__ = ["ServerSettings", "create_app"]
