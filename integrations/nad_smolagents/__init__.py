"""The sandbox as a code executor of smolagents: an agent's Python runs isolated, and keeps its variables."""

from nad_smolagents.executor import NADPythonExecutor

__all__ = ["NADPythonExecutor"]
