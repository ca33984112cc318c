"""Removing what sandboxes of killed processes left behind."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from nad_sandbox.base import SandboxUnavailableError
from nad_sandbox.cgroup import ControlGroups
from nad_sandbox.owner import Owner
from nad_sandbox.temporary import reap_folders

if TYPE_CHECKING:
    import docker

__all__ = ["reap_containers", "reap_leftovers"]


def reap_containers(api: docker.APIClient) -> list[str]:
    """Remove sandbox containers whose owner is dead.

    Args:
        api: the engine's client.

    Returns:
        A line for each removed container.
    """
    from docker.errors import DockerException

    from nad_sandbox.container import LABEL

    removed = []
    for container in api.containers(all=True, filters={"label": LABEL}):
        owner = Owner.parse(container["Labels"][LABEL])
        # one that has stopped belongs to nobody after a reboot, when process ids count anew
        abandoned = owner is None or owner.is_gone() or (owner.is_of_earlier_boot() and container["State"] != "running")
        if not abandoned:
            continue
        with contextlib.suppress(DockerException):
            api.remove_container(container["Id"], v=True, force=True)
            removed.append(f"container {container['Id'][:12]} of process {owner.pid if owner else 'unknown'}")
    return removed


def reap_leftovers(docker_host: str | None = None) -> list[str]:
    """Remove everything that sandboxes of dead processes left: containers, control groups, processes, folders.

    What living processes use is not touched. Without a Docker engine, containers are passed over.

    Args:
        docker_host: address of the engine; default: DOCKER_HOST, else the default socket.

    Returns:
        A line for each thing that was removed.
    """
    from nad_sandbox.docker import connect

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
