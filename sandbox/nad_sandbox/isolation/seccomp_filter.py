"""Compile the system-call policy to a filter that the kernel loads, for backends without a container engine.

The system's libseccomp compiles the policy: it knows every architecture's numbers, and sorts the rules. Package
managers and init systems link this library, so that nearly every Linux machine has it.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache
from typing import Any

from nad_sandbox.base import SandboxUnavailableError
from nad_sandbox.isolation.policy import ALLOWED_SYSCALLS, SYSCALL_RULES, Condition

__all__ = ["compile_filter"]

_ALLOW = 0x7FFF0000
_ERRNO = 0x00050000
_KILL_PROCESS = 0x80000000
_EPERM = 1
_ENOSYS = 38
_ACT_BADARCH = 2
_COMPARE = {"eq": 4, "masked_eq": 7}

# numbers of calls that an older libseccomp does not know; from 424 on they are the same on every architecture
_NUMBERS = {
    "pidfd_send_signal": 424, "io_uring_setup": 425, "pidfd_open": 434, "clone3": 435, "close_range": 436,
    "openat2": 437, "faccessat2": 439, "epoll_pwait2": 441, "landlock_create_ruleset": 444,
    "landlock_add_rule": 445, "landlock_restrict_self": 446, "process_mrelease": 448, "futex_waitv": 449,
    "fchmodat2": 452, "futex_wake": 454, "futex_wait": 455, "futex_requeue": 456,
}  # fmt: skip
# calls newer than the policy: C libraries that try one fall back on "no such call"
_NEWER = range(463, 512)


class _Comparison(ctypes.Structure):
    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("datum_a", ctypes.c_uint64),
        ("datum_b", ctypes.c_uint64),
    )


@cache
def compile_filter() -> bytes:
    """Compile the policy to an array of `struct sock_filter` for this machine's architecture.

    Calls of another architecture or of the x32 ABI kill the process.

    Raises:
        SandboxUnavailableError: The library libseccomp is missing, or rejects the policy.
    """
    library = _libseccomp()
    context = library.seccomp_init(_ERRNO | _EPERM)
    if not context:
        raise SandboxUnavailableError("libseccomp made no filter; is there memory left?")
    try:
        _check(library.seccomp_attr_set(context, _ACT_BADARCH, _KILL_PROCESS), "the architecture rule")
        for name in ALLOWED_SYSCALLS:
            _add(library, context, _ALLOW, _number(library, name), None)
        for rule in SYSCALL_RULES:
            action = _ALLOW if rule.errno is None else _ERRNO | rule.errno
            _add(library, context, action, _number(library, rule.name), rule.condition)
        for number in _NEWER:
            _add(library, context, _ERRNO | _ENOSYS, number, None)
        file = os.memfd_create("filter", os.MFD_CLOEXEC)
        try:
            _check(library.seccomp_export_bpf(context, file), "the export")
            return os.pread(file, os.fstat(file).st_size, 0)
        finally:
            os.close(file)
    finally:
        library.seccomp_release(context)


def _libseccomp() -> Any:
    try:
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError:
        raise SandboxUnavailableError(
            "the bubblewrap sandbox needs libseccomp, which compiles its system-call policy; install it with "
            "`apt install libseccomp2` (Debian, Ubuntu) or `dnf install libseccomp` (Fedora)"
        ) from None
    library.seccomp_init.argtypes = [ctypes.c_uint32]
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_attr_set.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32]
    library.seccomp_syscall_resolve_name.argtypes = [ctypes.c_char_p]
    library.seccomp_rule_add_array.argtypes = [
        ctypes.c_void_p,
        ctypes.c_uint32,
        ctypes.c_int,
        ctypes.c_uint,
        ctypes.POINTER(_Comparison),
    ]
    library.seccomp_export_bpf.argtypes = [ctypes.c_void_p, ctypes.c_int]
    library.seccomp_release.argtypes = [ctypes.c_void_p]
    library.seccomp_release.restype = None
    return library


def _number(library: Any, name: str) -> int:
    """Return the number of a call; negative when this architecture has none."""
    number = int(library.seccomp_syscall_resolve_name(name.encode()))
    return number if number >= 0 else _NUMBERS.get(name, -1)


def _add(library: Any, context: Any, action: int, number: int, condition: Condition | None) -> None:
    if number < 0:
        return
    comparisons = (_Comparison * 1)()
    if condition is not None:
        first, second = condition.value, 0
        if condition.op == "masked_eq":
            first, second = condition.mask, condition.value
        comparisons[0] = _Comparison(condition.index, _COMPARE[condition.op], first, second)
    count = 0 if condition is None else 1
    _check(library.seccomp_rule_add_array(context, action, number, count, comparisons), f"the rule for call {number}")


def _check(status: int, what: str) -> None:
    if status < 0:
        raise SandboxUnavailableError(f"libseccomp refused {what} of the system-call policy: {os.strerror(-status)}")
