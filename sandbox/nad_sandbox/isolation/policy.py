"""The rights of a sandboxed program, defined once for all backends: its system calls and where it may write.

The system-call policy is an allow list: Docker's default profile as it applies to a process without capabilities,
without io_uring, ptrace and related calls, System V IPC, message queues, fanotify, file handles, secret and executable
memory files, and sockets other than unix and IP. Everything else (keyctl, bpf, userfaultfd, perf_event_open, the mount
and namespace families, module loading, clocks) is refused with EPERM because it is not on the list.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from nad_sandbox.base import Limits

__all__ = [
    "ALLOWED_SYSCALLS",
    "SCRATCH",
    "SHARED_MEMORY",
    "SYSCALL_RULES",
    "WORKDIR",
    "Condition",
    "SyscallRule",
    "scratch_options",
    "seccomp_profile",
    "shared_memory_mb",
]

SCRATCH = "/tmp"
"""The writable scratch space: a tmpfs of `Limits.tmpfs_mb`."""

SHARED_MEMORY = "/dev/shm"
"""Folder in which the C library keeps the semaphores and shared memory of multiprocessing: a tmpfs of the sandbox."""

WORKDIR = "/tmp/work"
"""The program's working folder, created anew in the scratch space."""

_INODES_PER_MIB = 128

_FILES = """
access chdir chmod chown close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2 fadvise64
fallocate fchdir fchmod fchmodat fchmodat2 fchown fchownat fcntl fdatasync fgetxattr flistxattr flock fremovexattr
fsetxattr fstat fstatfs fsync ftruncate futimesat getcwd getdents getdents64 getxattr inotify_add_watch inotify_init
inotify_init1 inotify_rm_watch ioctl lchown lgetxattr link linkat listxattr llistxattr lremovexattr lseek lsetxattr
lstat mkdir mkdirat mknod mknodat newfstatat open openat openat2 pread64 preadv preadv2 pwrite64 pwritev pwritev2
read readahead readlink readlinkat readv removexattr rename renameat renameat2 rmdir sendfile setxattr splice stat
statfs statx symlink symlinkat sync sync_file_range syncfs tee truncate umask unlink unlinkat utime utimensat utimes
vmsplice write writev io_cancel io_destroy io_getevents io_pgetevents io_setup io_submit
landlock_add_rule landlock_create_ruleset landlock_restrict_self
"""
_MEMORY = """
brk madvise membarrier mincore mlock mlock2 mlockall mmap mprotect mremap msync munlock munlockall munmap pkey_alloc
pkey_free pkey_mprotect remap_file_pages
"""
_PROCESSES = """
alarm arch_prctl capget capset execve execveat exit exit_group fork futex futex_wait futex_waitv futex_wake
futex_requeue get_robust_list get_thread_area getcpu getegid geteuid getgid getgroups getitimer getpgid getpgrp getpid
getppid getpriority getresgid getresuid getrlimit getrusage getsid gettid getuid ioprio_get ioprio_set kill pause
pidfd_open pidfd_send_signal prctl prlimit64 process_mrelease restart_syscall rseq rt_sigaction rt_sigpending
rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo sched_get_priority_max
sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval
sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp set_robust_list set_thread_area
set_tid_address setfsgid setfsuid setgid setgroups setitimer setpgid setpriority setregid setresgid setresuid setreuid
setrlimit setsid setuid sigaltstack tgkill tkill vfork wait4 waitid riscv_flush_icache
"""
_WAITING_AND_TIME = """
adjtimex clock_adjtime clock_getres clock_gettime clock_nanosleep epoll_create epoll_create1 epoll_ctl epoll_ctl_old
epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 getrandom gettimeofday nanosleep pipe pipe2 poll
ppoll pselect6 select signalfd signalfd4 sysinfo time timer_create timer_delete timer_getoverrun timer_gettime
timer_settime timerfd_create timerfd_gettime timerfd_settime times uname
"""
_SOCKETS = """
accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom recvmmsg recvmsg send sendmmsg
sendmsg sendto setsockopt shutdown
"""
ALLOWED_SYSCALLS: tuple[str, ...] = tuple(
    sorted("".join((_FILES, _MEMORY, _PROCESSES, _WAITING_AND_TIME, _SOCKETS)).split())
)
"""System calls that are allowed with any arguments. Names that an architecture lacks are skipped on it."""


@dataclass(frozen=True)
class Condition:
    """A test of one argument of a system call.

    Attributes:
        index: Index of the argument, from 0.
        op: "eq" requires the argument to equal `value`; "masked_eq" compares only the bits of `mask`.
        value: Value that the argument is compared with.
        mask: Bits that "masked_eq" compares.
    """

    index: int
    op: Literal["eq", "masked_eq"]
    value: int
    mask: int = 0


@dataclass(frozen=True)
class SyscallRule:
    """One system call and when it is allowed, or the error that it returns.

    Attributes:
        name: Name of the system call.
        condition: Condition under which the rule applies; None: always.
        errno: The error to return; None: the call is allowed.
    """

    name: str
    condition: Condition | None = None
    errno: int | None = None


_NEW_NAMESPACES = 0x7E020000  # every CLONE_NEW* flag
_ENOSYS = 38

SYSCALL_RULES: tuple[SyscallRule, ...] = (
    SyscallRule("clone", Condition(0, "masked_eq", 0, _NEW_NAMESPACES)),
    # a filter cannot see flags behind a pointer; "no such call" makes the C library use clone instead
    SyscallRule("clone3", errno=_ENOSYS),
    # programs that ask for io_uring fall back to epoll on "no such call"
    SyscallRule("io_uring_setup", errno=_ENOSYS),
    *(SyscallRule("socket", Condition(0, "eq", family)) for family in (1, 2, 10)),  # unix, IPv4, IPv6
    SyscallRule("socketpair", Condition(0, "eq", 1)),
    *(SyscallRule("personality", Condition(0, "eq", persona)) for persona in (0, 0xFFFFFFFF)),
)
"""System calls that depend on their arguments, or whose refusal is not EPERM."""


def seccomp_profile() -> dict[str, Any]:
    """Return the system-call policy in Docker's seccomp format."""
    groups: list[dict[str, Any]] = [{"names": list(ALLOWED_SYSCALLS), "action": "SCMP_ACT_ALLOW"}]
    for rule in SYSCALL_RULES:
        group: dict[str, Any] = {"names": [rule.name], "action": "SCMP_ACT_ALLOW"}
        if rule.errno is not None:
            group |= {"action": "SCMP_ACT_ERRNO", "errnoRet": rule.errno}
        if rule.condition is not None:
            group["args"] = [_docker_condition(rule.condition)]
        groups.append(group)
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        # 32-bit calls are left out: their numbers and arguments would need rules of their own
        "archMap": [
            {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": []},
            {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": []},
            {"architecture": "SCMP_ARCH_RISCV64", "subArchitectures": []},
        ],
        "syscalls": groups,
    }


def _docker_condition(condition: Condition) -> dict[str, Any]:
    if condition.op == "eq":
        return {"index": condition.index, "value": condition.value, "op": "SCMP_CMP_EQ"}
    return {
        "index": condition.index,
        "value": condition.mask,
        "valueTwo": condition.value,
        "op": "SCMP_CMP_MASKED_EQ",
    }


def shared_memory_mb(limits: Limits) -> int:
    """Return the size of `SHARED_MEMORY` in MiB: a quarter of the scratch space, in addition to it."""
    return max(1, limits.tmpfs_mb // 4)


def scratch_options(limits: Limits) -> str:
    """Return the mount options of the scratch space: its size, its largest number of files, and its permissions."""
    files = max(1024, limits.tmpfs_mb * _INODES_PER_MIB)
    return f"size={limits.tmpfs_mb}m,nr_inodes={files},mode=1777"
