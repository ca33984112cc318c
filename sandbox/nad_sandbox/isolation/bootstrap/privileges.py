"""Give up what this process and the programs that it becomes could do: capabilities, other users, system calls."""

from __future__ import annotations

import ctypes
import os

LIBC = ctypes.CDLL(None, use_errno=True)
KILL, SETGID, SETUID, SETPCAP = 5, 6, 7, 8  # capabilities


def limit_capabilities(kept: tuple[int, ...]) -> None:
    """Drop all other capabilities from the bounding set, so that no program executed from now on can gain them."""
    for capability in range(64):
        if capability not in kept:
            LIBC.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


def keep_capabilities(kept: tuple[int, ...]) -> None:
    """Drop all other capabilities of this process."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    held = sum(1 << capability for capability in kept)
    sets = (ctypes.c_uint32 * 6)(held, held, 0, 0, 0, 0)
    if LIBC.prctl(47, 4, 0, 0, 0) < 0 or LIBC.capset(header, sets) < 0:  # PR_CAP_AMBIENT, clear all
        raise OSError(ctypes.get_errno(), "capset")


def become_user(user: int, group: int) -> None:
    """Change irrevocably to a user without any capability."""
    limit_capabilities(())
    os.setgroups([])
    os.setresgid(group, group, group)
    os.setresuid(user, user, user)
    keep_capabilities(())


def load_filter(program: bytes) -> None:
    """Load a seccomp filter, which the kernel applies to every system call from now on."""
    import struct

    text = ctypes.create_string_buffer(program, len(program))
    pointer = struct.pack("HP", len(program) // 8, ctypes.addressof(text))
    LIBC.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS, which seccomp filters require
    if LIBC.prctl(22, 2, pointer, 0, 0) < 0:  # PR_SET_SECCOMP
        raise OSError(ctypes.get_errno(), "seccomp")


def be_unseen() -> None:
    """Keep other processes of this user from reading this process's memory or using its descriptors."""
    LIBC.prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE
