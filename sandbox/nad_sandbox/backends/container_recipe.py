"""Build the engine's create request for a sandbox container."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from nad_sandbox.backends.launcher import BOOTSTRAP_FLAGS, Lifetime, session_settings
from nad_sandbox.base import Limits
from nad_sandbox.isolation.bootstrap import bootstrap_source
from nad_sandbox.isolation.policy import (
    SCRATCH,
    SHARED_MEMORY,
    WORKDIR,
    scratch_options,
    seccomp_profile,
    shared_memory_mb,
)
from nad_sandbox.isolation.sandbox_user import NOGROUP, UNUSED_USERS, fresh_user
from nad_sandbox.ownership.containers import LABEL
from nad_sandbox.ownership.owner import Owner

__all__ = ["ContainerRecipe"]


@dataclass(frozen=True)
class ContainerRecipe:
    """How sandbox containers are made.

    Attributes:
        image: Tag or id of a local image.
        python: The interpreter in the image, as a path or a name on its PATH.
        limits: Limits of each program.
        runtime: An OCI runtime of the engine; None: the engine's default.
        users: The user ids, of which each container gets one.
        lifetime: Whether the containers are for a session.
    """

    image: str
    python: str
    limits: Limits
    runtime: str | None
    users: range = UNUSED_USERS
    lifetime: Lifetime = "programs"

    def create_request(self, volumes: list[str]) -> dict[str, Any]:
        """Return the body of the engine's create request for one container, whose user no other container has.

        Args:
            volumes: Folders that the image declares as volumes; they are covered, since they would be writable.
        """
        user = fresh_user(self.users)
        settings = _host_config(self.limits, self.runtime)
        for volume in volumes:
            if volume.rstrip("/") != SCRATCH:
                settings["Tmpfs"][volume] = "ro,noexec,nosuid,nodev,size=4k"
        bootstrap = {
            "workdir": WORKDIR,
            "landlock": [SCRATCH, SHARED_MEMORY],
            "user": [user, NOGROUP],
            "session": session_settings(self.lifetime),
        }
        return {
            "Image": self.image,
            "Entrypoint": [self.python, *BOOTSTRAP_FLAGS, bootstrap_source(), json.dumps(bootstrap)],
            "Cmd": [],
            # the bootstrap program runs as root with the capabilities below; the program runs as another user
            "User": "0:0",
            "Hostname": "sandbox",
            "WorkingDir": "/",
            "Env": [f"TMPDIR={SCRATCH}"],
            "AttachStdin": True,
            "AttachStdout": True,
            "AttachStderr": True,
            "OpenStdin": True,
            "StdinOnce": True,  # when this process dies, the bootstrap program reads the end of its input and ends
            "Tty": False,
            "NetworkDisabled": True,
            "Healthcheck": {"Test": ["NONE"]},
            "Labels": {LABEL: str(Owner.current())},
            "HostConfig": settings,
        }


def _host_config(limits: Limits, runtime: str | None) -> dict[str, Any]:
    """Return the container's limits and rights in the form of the engine's API."""
    memory = limits.memory_mb * 2**20
    fsize = limits.fsize_mb * 2**20
    settings: dict[str, Any] = {
        "NetworkMode": "none",
        "IpcMode": "private",
        "ShmSize": shared_memory_mb(limits) * 2**20,
        "ReadonlyRootfs": True,
        "Tmpfs": {SCRATCH: f"rw,noexec,nosuid,nodev,{scratch_options(limits)}"},
        "CapDrop": ["ALL"],
        "CapAdd": ["KILL", "SETGID", "SETUID", "SETPCAP"],
        "SecurityOpt": ["no-new-privileges:true", f"seccomp={json.dumps(seccomp_profile())}"],
        "Init": True,
        "PidsLimit": limits.pids,
        "Memory": memory,
        "MemorySwap": memory,
        "NanoCpus": int(limits.cpus * 1e9),
        "Ulimits": [
            {"Name": "nofile", "Soft": limits.nofile, "Hard": limits.nofile},
            {"Name": "fsize", "Soft": fsize, "Hard": fsize},
            {"Name": "core", "Soft": 0, "Hard": 0},
        ],
        "LogConfig": {"Type": "none"},
        "RestartPolicy": {"Name": "no"},
        "OomScoreAdj": 1000,
    }
    if runtime is not None:
        settings["Runtime"] = runtime
    return settings
