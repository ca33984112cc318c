"""Label containers with their owner, so that containers of killed processes can be removed."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from nad_sandbox.ownership.owner import Owner

if TYPE_CHECKING:
    import docker

__all__ = ["LABEL", "reap_containers"]

LABEL = "nad-sandbox.owner"
"""Label of every sandbox container; its value is the `Owner`."""


def reap_containers(api: docker.APIClient) -> list[str]:
    """Remove sandbox containers whose owner is dead.

    Args:
        api: The engine's client.

    Returns:
        A line for each removed container.
    """
    from docker.errors import DockerException

    removed = []
    for container in api.containers(all=True, filters={"label": LABEL}):
        owner = Owner.parse(container["Labels"][LABEL])
        # after a reboot process ids start anew, so a stopped container of an earlier boot has no owner
        abandoned = owner is None or owner.is_gone() or (owner.is_of_earlier_boot() and container["State"] != "running")
        if not abandoned:
            continue
        with contextlib.suppress(DockerException):
            api.remove_container(container["Id"], v=True, force=True)
            removed.append(f"container {container['Id'][:12]} of process {owner.pid if owner else 'unknown'}")
    return removed
