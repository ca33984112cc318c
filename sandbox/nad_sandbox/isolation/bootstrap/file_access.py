"""Set which files can be read, written and executed: the scratch space, and Landlock."""

from __future__ import annotations

import ctypes
import os
import sys

from nad_sandbox.isolation.bootstrap.privileges import LIBC


def mount_scratch_space(writable: dict[str, str]) -> None:
    """Mount a tmpfs in every folder that the program may write to.

    Args:
        writable: The options of each tmpfs, by its folder.
    """
    for place, options in writable.items():
        # nosuid, nodev, noexec; where a security module forbids it, the plain tmpfs that lies there is used
        LIBC.mount(b"tmpfs", place.encode(), b"tmpfs", ctypes.c_ulong(2 | 4 | 8), options.encode())


def restrict_with_landlock(writable: list[str]) -> None:
    """Deny writes outside `writable`, execution inside it, TCP, and signals and abstract sockets to the outside."""
    abi = LIBC.syscall(444, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    if abi < 1:
        return
    execute, read = 1 << 0, (1 << 2) | (1 << 3)
    known = (1 << 13) - 1
    if abi >= 2:
        known |= 1 << 13  # refer
    if abi >= 3:
        known |= 1 << 14  # truncate
    device = (1 << 1) | (1 << 14 & known)  # write a file
    if abi >= 5:
        known |= 1 << 15  # ioctl on devices
    net = 3 if abi >= 4 else 0
    scoped = 3 if abi >= 6 else 0
    attributes = (ctypes.c_uint64 * 3)(known, net, scoped)
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    ruleset = LIBC.syscall(444, attributes, ctypes.c_size_t(size), ctypes.c_uint32(0))
    if ruleset < 0:
        raise OSError(ctypes.get_errno(), "landlock_create_ruleset")
    # a rule holds for everything below its folder, so execution is granted only beside the writable folders
    rules = [("/", read)]
    folders = ["/" + name for name in os.listdir("/") if os.path.isdir("/" + name)]
    beside = [folder for folder in folders if not any((path + "/").startswith(folder + "/") for path in writable)]
    rules += [(folder, execute | read) for folder in beside]
    rules += [(path, known & ~execute) for path in writable]
    devices = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
    rules += [(path, (1 << 2) | device) for path in devices if os.path.exists(path)]
    for path, access in rules:
        folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
        rule = access.to_bytes(8, sys.byteorder) + folder.to_bytes(4, sys.byteorder)
        if LIBC.syscall(445, ruleset, 1, rule, ctypes.c_uint32(0)) < 0:
            raise OSError(ctypes.get_errno(), "landlock_add_rule " + path)
        os.close(folder)
    LIBC.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS, which Landlock requires
    if LIBC.syscall(446, ruleset, ctypes.c_uint32(0)) < 0:
        raise OSError(ctypes.get_errno(), "landlock_restrict_self")
    os.close(ruleset)
