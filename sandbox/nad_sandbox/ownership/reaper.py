"""Remove the leftovers of killed processes' sandboxes: containers, control groups, folders."""

from __future__ import annotations

import contextlib

from nad_sandbox.base import SandboxUnavailableError
from nad_sandbox.isolation.cgroup import ControlGroups
from nad_sandbox.ownership.containers import reap_containers
from nad_sandbox.ownership.temp_folders import reap_folders

__all__ = ["reap_leftovers"]


def reap_leftovers(docker_host: str | None = None) -> list[str]:
    """Remove everything that sandboxes of dead processes left behind: containers, control groups, processes, folders.

    Sandboxes of living processes are not touched. Containers are skipped when no Docker engine answers.

    Args:
        docker_host: Address of the engine; default: DOCKER_HOST, else the default socket.

    Returns:
        A line for each removed item.
    """
    from nad_sandbox.backends.docker_client import connect

    removed = reap_folders()
    groups = ControlGroups.find()
    if groups is not None:
        removed += groups.reap()
    with contextlib.suppress(SandboxUnavailableError):
        api = connect(docker_host)
        try:
            removed += reap_containers(api)
        finally:
            api.close()
    return removed
