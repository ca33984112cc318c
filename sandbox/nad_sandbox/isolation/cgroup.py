"""Make control groups that bound a program with all its processes, where this process may make them.

Version 1 (a tree for each controller) and version 2 (one tree) are supported. Groups are made below the group of this
process or, in version 2, below the nearest group above it that delegates its controllers.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nad_sandbox.base import Limits
from nad_sandbox.ownership.owner import Owner

__all__ = ["ControlGroup", "ControlGroups", "Controller"]

Controller = Literal["memory", "pids", "cpu"]

CONTROLLERS: tuple[Controller, ...] = ("memory", "pids", "cpu")
PREFIX = "nad-sandbox-"
PERIOD_MICROSECONDS = 100_000
REMOVE_SECONDS = 5.0

# of all sandboxes of this process, whose groups lie side by side
_counter = itertools.count()


@dataclass(frozen=True)
class ControlGroup:
    """The control group of one program.

    Attributes:
        folders: Its folder for each controller; in version 2 all controllers share one folder.
        version: Version of control groups, 1 or 2.
    """

    folders: dict[Controller, Path]
    version: Literal[1, 2]

    def add(self, pid: int) -> None:
        """Add a process to the group; the processes that it starts from now on belong to the group too.

        Raises:
            OSError: The process may not be moved, or has ended.
        """
        for folder in set(self.folders.values()):
            (folder / "cgroup.procs").write_text(str(pid))

    def exists(self) -> bool:
        """Return whether the group exists."""
        return all(folder.is_dir() for folder in self.folders.values())

    def oom_kills(self) -> int:
        """Return how many of the group's processes the memory limit has killed; 0 without a memory controller."""
        if "memory" not in self.folders:
            return 0
        name = "memory.events" if self.version == 2 else "memory.oom_control"
        for line in (self.folders["memory"] / name).read_text().splitlines():
            key, _, value = line.partition(" ")
            if key == "oom_kill":
                return int(value)
        return 0

    def kill(self) -> None:
        """Send SIGKILL to every process in the group."""
        for folder in set(self.folders.values()):
            with contextlib.suppress(OSError):
                for pid in (folder / "cgroup.procs").read_text().split():
                    os.kill(int(pid), signal.SIGKILL)

    def remove(self) -> bool:
        """Remove the group after waiting some seconds for its processes to end; return whether it was removed."""
        removed = [_remove(folder) for folder in set(self.folders.values())]
        return all(removed)


def _remove(folder: Path) -> bool:
    end = time.monotonic() + REMOVE_SECONDS
    while True:
        try:
            folder.rmdir()
        except FileNotFoundError:
            return True
        except OSError:
            if time.monotonic() > end:
                return False
            time.sleep(0.002)
        else:
            return True


class ControlGroups:
    """Makes control groups in the places where this process may make them.

    Args:
        parents: For each controller, the folder below which groups are made.
        version: Version of control groups, 1 or 2.
    """

    def __init__(self, parents: dict[Controller, Path], version: Literal[1, 2]) -> None:
        self.parents = parents
        self.version = version

    @classmethod
    def find(cls) -> ControlGroups | None:
        """Find the controllers that this process may use; None when there are none."""
        for groups in (cls(_version_1_parents(), 1), cls(_version_2_parents(), 2)):
            usable = {name: parent for name, parent in groups.parents.items() if groups._works(name)}
            if usable:
                return cls(usable, groups.version)
        return None

    def make(self, limits: Limits) -> ControlGroup:
        """Make a group that bounds memory (with swap), processes and CPU time, where controllers are available.

        Args:
            limits: Limits of the program.

        Raises:
            OSError: The group may not be made.
        """
        name = f"{PREFIX}{Owner.current()}-{next(_counter)}"
        group = ControlGroup({kind: parent / name for kind, parent in self.parents.items()}, self.version)
        try:
            for folder in set(group.folders.values()):
                folder.mkdir()
            for kind, folder in group.folders.items():
                self._limit(kind, folder, limits)
        except BaseException:
            group.remove()
            raise
        return group

    def reap(self) -> list[str]:
        """Remove the groups of dead owners and kill the processes in them; return a line for each group."""
        removed = []
        for folder in {path for parent in self.parents.values() for path in parent.glob(f"{PREFIX}*")}:
            owner = Owner.parse(folder.name.removeprefix(PREFIX).rpartition("-")[0])
            if owner is None or not owner.is_gone():
                continue
            group = ControlGroup({"memory": folder}, self.version)
            group.kill()
            if group.remove():
                removed.append(f"control group {folder} of process {owner.pid}")
        return sorted(removed)

    def _works(self, kind: Controller) -> bool:
        """Return whether a group with this controller can be made and limited."""
        trial = ControlGroups({kind: self.parents[kind]}, self.version)
        try:
            return trial.make(Limits()).remove()
        except OSError:
            return False

    def _limit(self, kind: Controller, folder: Path, limits: Limits) -> None:
        memory = str(limits.memory_mb * 2**20)
        quota = str(max(1000, int(limits.cpus * PERIOD_MICROSECONDS)))
        if kind == "pids":
            (folder / "pids.max").write_text(str(limits.pids))
        elif self.version == 2 and kind == "memory":
            (folder / "memory.max").write_text(memory)
            _write_if_there(folder / "memory.swap.max", "0")
        elif self.version == 2:
            (folder / "cpu.max").write_text(f"{quota} {PERIOD_MICROSECONDS}")
        elif kind == "memory":
            (folder / "memory.limit_in_bytes").write_text(memory)
            _write_if_there(folder / "memory.memsw.limit_in_bytes", memory)
        else:
            (folder / "cpu.cfs_period_us").write_text(str(PERIOD_MICROSECONDS))
            (folder / "cpu.cfs_quota_us").write_text(quota)


def _write_if_there(file: Path, text: str) -> None:
    """Write to a file that exists only on kernels that account for swap."""
    if file.exists():
        file.write_text(text)


def _own_groups() -> dict[str, str]:
    """Return the group of this process for each controller of version 1, and under "" its group of version 2."""
    groups: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            groups |= dict.fromkeys(controllers.split(","), path)
    return groups


def _mounts(kind: Literal["cgroup", "cgroup2"]) -> Iterator[tuple[str, Path, set[str]]]:
    """Yield the root within its tree, the mount point and the options of each control group mount."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            before, _, after = line.partition(" - ")
            if after.split()[0] == kind:
                root, place = before.split()[3:5]
                yield root, Path(place), set(after.split()[2].split(","))


def _folder(root: str, place: Path, group: str) -> Path | None:
    """Return the folder of a group as seen through a mount; None when the group is outside the mount."""
    relative = os.path.relpath(group, root)
    return None if relative.startswith("..") else place / relative


def _version_1_parents() -> dict[Controller, Path]:
    own = _own_groups()
    parents: dict[Controller, Path] = {}
    for root, place, options in _mounts("cgroup"):
        for kind in CONTROLLERS:
            folder = _folder(root, place, own[kind]) if kind in options and kind in own else None
            if folder is not None and os.access(folder, os.W_OK):
                parents[kind] = folder
    return parents


def _version_2_parents() -> dict[Controller, Path]:
    own = _own_groups().get("")
    for root, place, _ in _mounts("cgroup2"):
        folder = _folder(root, place, own) if own else None
        while folder is not None and folder.is_relative_to(place):
            parents = _handed_on(folder)
            if "memory" in parents:
                return parents
            folder = folder.parent
    return {}


def _handed_on(folder: Path) -> dict[Controller, Path]:
    """Return the controllers that groups below a folder get, if this process may make groups there."""
    try:
        names = (folder / "cgroup.subtree_control").read_text().split()
    except OSError:
        return {}
    # moving a process requires write access to this file too
    allowed = os.access(folder, os.W_OK) and os.access(folder / "cgroup.procs", os.W_OK)
    return {kind: folder for kind in CONTROLLERS if kind in names} if allowed else {}
