"""The sandbox as a sandbox environment of Inspect, under the name "nad": local and isolated, with Docker or without."""

from nad_inspect_ai.sandbox_environment import NADSandboxConfig, NADSandboxEnvironment

__all__ = ["NADSandboxConfig", "NADSandboxEnvironment"]
