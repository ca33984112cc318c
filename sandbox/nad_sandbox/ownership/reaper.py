"""Removing what the sandboxes of killed processes left behind: containers, control groups, folders."""

from __future__ import annotations

import contextlib

from nad_sandbox.base import SandboxUnavailableError
from nad_sandbox.isolation.cgroup import ControlGroups
from nad_sandbox.ownership.containers import reap_containers
from nad_sandbox.ownership.temp_folders import reap_folders

__all__ = ["reap_leftovers"]


def reap_leftovers(docker_host: str | None = None) -> list[str]:
    """Remove everything that sandboxes of dead processes left: containers, control groups, processes, folders.

    What living processes use is not touched. Where no Docker engine answers, only the rest is removed.

    Args:
        docker_host: address of the engine; default: DOCKER_HOST, else the default socket.

    Returns:
        A line for each thing that was removed.
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
