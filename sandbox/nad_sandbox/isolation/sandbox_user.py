"""Choose the user that a sandbox's programs run as: each sandbox gets a user of its own.

The kernel counts some resources for each user. Two sandboxes of one user would share the user's quotas of inotify
instances, pipe buffers, timers and pending signals, so that one program could exhaust them for all others.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable

__all__ = ["NOBODY", "NOGROUP", "REMAPPED_USERS", "UNUSED_USERS", "fresh_user", "users_of_engine"]

NOBODY = 65534
"""Id of the user inside a user namespace, who is the caller outside."""

NOGROUP = 65534
"""Id of every program's group."""

UNUSED_USERS = range(0x70000000, 0x7FFFFFFE)
"""User ids that systemd's allocation leaves unused: above those of containers, below the sign bit."""

REMAPPED_USERS = range(20000, 60000)
"""User ids within an engine's user namespace, which usually has 65,536 ids."""


def fresh_user(users: range = UNUSED_USERS) -> int:
    """Return a random user id, which another sandbox is very unlikely to have."""
    return users[secrets.randbelow(len(users))]


def users_of_engine(security_options: Iterable[str]) -> range:
    """Return the user ids that a Docker engine can give to containers.

    Args:
        security_options: The field `SecurityOptions` of the engine's information.
    """
    remapped = any(option.startswith(("name=userns", "name=rootless")) for option in security_options)
    return REMAPPED_USERS if remapped else UNUSED_USERS
