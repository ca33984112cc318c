"""The user that a sandbox's programs run as: one of its own, since the kernel counts what a user uses.

Two sandboxes of one user would share the user's quotas of inotify instances, pipe buffers, timers and pending signals,
so that one program could use them up for all others.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable

__all__ = ["NOBODY", "NOGROUP", "REMAPPED_USERS", "UNUSED_USERS", "fresh_user", "users_of_engine"]

NOBODY = 65534
"""The user inside a user namespace, which is the caller outside."""

NOGROUP = 65534
"""The group of every program."""

UNUSED_USERS = range(0x70000000, 0x7FFFFFFE)
"""User ids that systemd's allocation leaves to nobody: above those of containers, below the sign bit."""

REMAPPED_USERS = range(20000, 60000)
"""User ids within an engine's user namespace, which has 65,536 of them as a rule."""


def fresh_user(users: range = UNUSED_USERS) -> int:
    """Return a user id that no other sandbox has, as far as chance allows it."""
    return users[secrets.randbelow(len(users))]


def users_of_engine(security_options: Iterable[str]) -> range:
    """Return the user ids that a Docker engine can give to containers.

    Args:
        security_options: the field `SecurityOptions` of the engine's information.
    """
    remapped = any(option.startswith(("name=userns", "name=rootless")) for option in security_options)
    return REMAPPED_USERS if remapped else UNUSED_USERS
