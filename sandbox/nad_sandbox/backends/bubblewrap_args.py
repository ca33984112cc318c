"""Build the arguments of bwrap for a sandbox: its interpreter, file system and namespaces."""

# symbolic links are followed one by one, which pathlib cannot do without normalizing the path
# ruff: noqa: PTH114, PTH115, PTH118, PTH120

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from nad_sandbox.backends.launcher import BOOTSTRAP_FLAGS, Lifetime, session_settings
from nad_sandbox.base import Limits, SandboxUnavailableError
from nad_sandbox.image.pytest_files import PACKAGES
from nad_sandbox.isolation.bootstrap import bootstrap_source
from nad_sandbox.isolation.policy import SCRATCH, SHARED_MEMORY, WORKDIR, scratch_options, shared_memory_mb
from nad_sandbox.isolation.sandbox_user import NOBODY, NOGROUP, fresh_user
from nad_sandbox.isolation.seccomp_filter import compile_filter

__all__ = ["Interpreter", "Layout", "account_files", "find_interpreter"]

# programs and libraries of the distribution, without files of users or of running services
_SYSTEM = ("/usr/bin", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/share/zoneinfo")
_MERGED = ("/bin", "/lib", "/lib32", "/lib64")
_SETTINGS = ("/etc/ld.so.cache", "/etc/alternatives")
# names of the interpreter that nothing else has
_NAMES = "/opt/nad-sandbox/bin"
_DEVICES = ("null", "zero", "full", "random", "urandom")
_LINKS = {"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"}
# files in which the kernel describes the host; container engines hide the same ones
_MASKED_FILES = ("kcore", "keys", "latency_stats", "timer_list", "sched_debug", "interrupts", "kallsyms", "modules")
_MASKED_FOLDERS = ("acpi", "asound", "scsi")

_QUERY = """
import json, os, sys, sysconfig
base = {"platbase": sys.base_exec_prefix}
print(json.dumps({
    "executable": sys.executable,
    "base": getattr(sys, "_base_executable", None) or os.path.realpath(sys.executable),
    "prefix": sys.prefix,
    "base_prefix": sys.base_prefix,
    "cache_tag": sys.implementation.cache_tag,
    "version": "%d.%d.%d" % sys.version_info[:3],
    "parts": [sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib", vars=base),
              os.path.join(sysconfig.get_config_var("LIBDIR") or "", sysconfig.get_config_var("INSTSONAME") or "")],
}))
"""


@dataclass(frozen=True)
class Interpreter:
    """A Python interpreter, and the parts of the host's file system that it needs.

    Attributes:
        executable: Its path, which is the same inside and outside.
        parts: Files and folders that it needs in addition to those of the distribution.
        cache_tag: The tag in the names of its compiled files.
        version: Its version, such as "3.11.2".
    """

    executable: str
    parts: tuple[str, ...]
    cache_tag: str
    version: str


def account_files(user: int) -> dict[str, bytes]:
    """Return the account files that a program sees instead of the host's.

    Args:
        user: Id of the user that the program runs as.
    """
    users = f"root:x:0:0:root:/:/usr/sbin/nologin\nnobody:x:{user}:{NOGROUP}:nobody:/tmp/work:/usr/sbin/nologin\n"
    return {"/etc/passwd": users.encode(), "/etc/group": f"root:x:0:\nnogroup:x:{NOGROUP}:\n".encode()}


def find_interpreter(python: str | None) -> Interpreter:
    """Find an interpreter, and the files that it needs.

    Args:
        python: Its path or name; that of a virtual environment brings the environment's packages. None: the base
            interpreter of this process, without its virtual environment.

    Raises:
        SandboxUnavailableError: The interpreter cannot be run, or would be hidden inside the sandbox.
    """
    asked = python or sys.executable
    try:
        done = subprocess.run([asked, "-I", "-c", _QUERY], capture_output=True, check=True, timeout=60)
        found = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise SandboxUnavailableError(f"the Python {asked!r} for the sandbox cannot be run: {error}") from error
    parts = [part for part in found["parts"] if Path(part).exists()]
    if (Path(found["base_prefix"]) / "conda-meta").is_dir():
        parts.append(f"{found['base_prefix']}/lib")  # its modules link libraries in this folder
    executable = found["base"]
    if python is not None and found["prefix"] != found["base_prefix"]:
        executable = found["executable"]
        parts.append(found["prefix"])
    parts += _links_to(executable)
    hidden = [part for part in parts if Path(part).is_relative_to(SCRATCH)]
    if hidden:
        raise SandboxUnavailableError(
            f"{hidden[0]} of the Python {asked!r} lies in {SCRATCH}, which is the scratch space inside the sandbox; "
            "use one that lies elsewhere"
        )
    parts = list(_outermost(part for part in parts if not _is_of_the_system(part)))
    return Interpreter(executable, tuple(parts), found["cache_tag"], found["version"])


def _links_to(executable: str) -> Iterator[str]:
    """Yield a file and the symbolic links that lead to it."""
    path = executable
    for _ in range(40):  # the kernel follows at most 40 links
        yield path
        if not os.path.islink(path):
            return
        path = os.path.normpath(os.path.join(os.path.dirname(path), os.readlink(path)))


def _folders_above(path: str) -> Iterator[str]:
    """Yield arguments that let every user pass the folders above a path; bubblewrap creates them for root alone."""
    for folder in reversed(Path(path).parents[:-1]):
        yield from ("--perms", "0755", "--dir", str(folder))


def _kernel_files() -> Iterator[str]:
    """Yield arguments for /proc without its descriptions of the host, and for /dev with the devices programs need."""
    yield from ("--proc", "/proc")
    for name in _MASKED_FILES:
        if Path("/proc", name).exists():
            yield from ("--ro-bind", "/dev/null", f"/proc/{name}")
    for name in _MASKED_FOLDERS:
        if Path("/proc", name).exists():
            yield from ("--tmpfs", f"/proc/{name}", "--remount-ro", f"/proc/{name}")
    for name in _DEVICES:
        yield from ("--dev-bind", f"/dev/{name}", f"/dev/{name}")
    for name, target in _LINKS.items():
        yield from ("--symlink", target, f"/dev/{name}")


def _outermost(paths: Iterable[str]) -> Iterator[str]:
    """Yield the paths that are not inside another one of the paths."""
    chosen: list[str] = []
    for path in sorted(set(paths)):  # a folder sorts before its contents
        if not any(Path(path).is_relative_to(folder) for folder in chosen):
            chosen.append(path)
    yield from chosen


def _is_of_the_system(path: str) -> bool:
    return any(Path(path).is_relative_to(folder) for folder in (*_SYSTEM, *_MERGED))


@dataclass(frozen=True)
class Layout:
    """How bubblewrap sandboxes are made on this machine.

    Attributes:
        bwrap: Path of bubblewrap.
        interpreter: The Python inside.
        limits: Limits of each program.
        as_root: Whether this process is root. If so, the sandbox is set up with root's rights and no user namespace,
            and its programs run as a user of their own. Otherwise they are nobody in a user namespace, and this
            process's user outside.
        sized: Whether bubblewrap can bound the size of a tmpfs, which matters where a security module keeps the
            sandbox from mounting its own.
        packages: Files and folders below `nad_sandbox.image.pytest_files.PACKAGES`, by name.
        lifetime: Whether the sandboxes are for a session.
    """

    bwrap: str
    interpreter: Interpreter
    limits: Limits
    as_root: bool
    sized: bool
    packages: dict[str, Path]
    lifetime: Lifetime = "programs"

    def user(self) -> int:
        """Return the user id for a new sandbox, as its programs see it.

        As root, each sandbox gets a user that no other has. In a user namespace every program is nobody inside and
        this process's user outside.
        """
        return fresh_user() if self.as_root else NOBODY

    def command(self, *, user: int, info_fd: int, block_fd: int, account_fds: dict[str, int]) -> list[str]:
        """Return the command line of bubblewrap for one sandbox.

        Args:
            user: The user id that `user` returned for this sandbox.
            info_fd: Descriptor to which bwrap writes the id of the sandbox's first process.
            block_fd: Descriptor that bwrap reads before it starts the program.
            account_fds: For each of `account_files`, a descriptor with its content.
        """
        return [
            self.bwrap,
            *self._namespaces(),
            *("--info-fd", str(info_fd), "--block-fd", str(block_fd)),
            *self._file_system(account_fds),
            *("--chdir", "/", "--", self.interpreter.executable, *BOOTSTRAP_FLAGS, bootstrap_source()),
            json.dumps(self._settings(user)),
        ]

    def _settings(self, user: int) -> dict[str, object]:
        return {
            "workdir": WORKDIR,
            "landlock": [SCRATCH, SHARED_MEMORY],
            "user": [user, NOGROUP] if self.as_root else None,
            "session": session_settings(self.lifetime),
            "confinement": {
                "writable": {
                    SCRATCH: scratch_options(self.limits),
                    SHARED_MEMORY: f"size={shared_memory_mb(self.limits)}m,mode=1777",
                },
                "filter": compile_filter().hex(),
            },
        }

    def _namespaces(self) -> Iterator[str]:
        if not self.as_root:
            yield from ("--unshare-user", "--uid", str(NOBODY), "--gid", str(NOGROUP))
        for kind in ("ipc", "pid", "net", "uts", "cgroup-try"):
            yield f"--unshare-{kind}"
        yield from ("--hostname", "sandbox", "--die-with-parent", "--new-session", "--clearenv")
        path = dict.fromkeys((str(Path(self.interpreter.executable).parent), "/usr/bin", "/bin", _NAMES))
        yield from ("--setenv", "PATH", ":".join(path), "--setenv", "TMPDIR", SCRATCH)
        # dropped by the bootstrap program before it takes a job, or by the process that becomes the program
        yield from ("--cap-drop", "ALL", "--cap-add", "CAP_SYS_ADMIN", "--cap-add", "CAP_SETPCAP")
        if self.as_root:
            yield from ("--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID", "--cap-add", "CAP_KILL")

    def _names(self) -> Iterator[str]:
        """Yield arguments that make "python3" this interpreter for commands too, and "python" where nothing else is."""
        yield from _folders_above(f"{_NAMES}/python")
        yield from ("--symlink", self.interpreter.executable, f"{_NAMES}/python")
        name = Path(self.interpreter.executable).with_name("python3")
        seen = {*self.interpreter.parts, *_SYSTEM, *_MERGED}
        if not any(name.is_relative_to(part) for part in seen):
            yield from ("--symlink", self.interpreter.executable, str(name))

    def _file_system(self, account_fds: dict[str, int]) -> Iterator[str]:
        yield from ("--perms", "0755", "--dir", "/usr", "--perms", "0755", "--dir", "/usr/share")
        yield from ("--perms", "0755", "--dir", "/etc", "--perms", "0755", "--dir", "/dev")
        for folder in (*_SYSTEM, *_SETTINGS):
            yield from ("--ro-bind-try", folder, folder)
        for folder in _MERGED:
            if os.path.islink(folder):
                yield from ("--symlink", os.readlink(folder), folder)
            else:
                yield from ("--ro-bind-try", folder, folder)
        for part in self.interpreter.parts:
            yield from _folders_above(part)
            yield from ("--ro-bind", part, part)
        yield from self._names()
        for name, path in self.packages.items():
            target = f"{PACKAGES}/{name}"
            yield from _folders_above(target)
            yield from ("--ro-bind", str(path), target)
        for file, descriptor in account_fds.items():
            yield from ("--perms", "0444", "--file", str(descriptor), file)
        yield from _kernel_files()
        for folder, megabytes in ((SHARED_MEMORY, shared_memory_mb(self.limits)), (SCRATCH, self.limits.tmpfs_mb)):
            if self.sized:
                yield from ("--size", str(megabytes * 2**20))
            yield from ("--perms", "1777", "--tmpfs", folder)
        yield from ("--remount-ro", "/")
