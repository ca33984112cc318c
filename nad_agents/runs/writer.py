"""Recording a run: one problem at a time, resumable after a kill at any moment."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

from nad_agents.exceptions import ConfigurationError
from nad_agents.runs.framing import RunError, append_frame, create_file, scan_frames
from nad_agents.runs.manifest import RunManifest, read_manifest, write_manifest
from nad_agents.runs.reader import RECORDS, RecordedRun
from nad_agents.runs.records import ProblemRecord, arrays_of, head_of, neuron_blocks

__all__ = ["RunWriter"]


class RunWriter:
    """Appends problems to a run; one writer at a time.

    Args:
        folder: of the run; made if absent.
        manifest: what it is recorded with.
        resume: go on with a run that is there; its settings must be the same.

    Raises:
        ConfigurationError: a run is there and `resume` is False, or it was recorded with other settings.
        RunError: another process writes it, or its file is damaged before its last record.
    """

    def __init__(self, folder: str | Path, manifest: RunManifest, *, resume: bool = False) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(self.folder / ".lock")
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            msg = f"another process is recording {self.folder}; wait for it, or record into another folder"
            raise RunError(msg) from error
        try:
            self.lost = self._open(manifest, resume=resume)
            self._done = {frame.problem for frame in scan_frames(self.folder / RECORDS)[0]}
        except BaseException:
            self._lock.release()
            raise

    def _open(self, manifest: RunManifest, *, resume: bool) -> int | None:
        """Make the files or check them; returns the offset from which an incomplete record was cut off."""
        path = self.folder / RECORDS
        if not (self.folder / "run.json").exists():
            if path.exists() and path.stat().st_size > 8:
                msg = f"{self.folder} holds records but no run.json; restore it, or record into another folder"
                raise RunError(msg)
            # a kill between the two files leaves an empty record file, which is as good as none
            path.unlink(missing_ok=True)
            create_file(path)
            write_manifest(self.folder, manifest)
            _sync_folder(self.folder)
            return None
        if not resume:
            msg = f"{self.folder} holds a run already; resume it (--resume), or record into another folder"
            raise ConfigurationError(msg)
        different = read_manifest(self.folder).differences(manifest)
        if different:
            msg = f"{self.folder} was recorded with other settings ({'; '.join(different)}); use another folder"
            raise ConfigurationError(msg)
        frames, torn = scan_frames(path)
        if torn is not None:
            os.truncate(path, torn)
        elif frames:
            # after a power failure a file may have its length but not its bytes
            last = RecordedRun(self.folder)
            try:
                last.group(frames[-1].problem)
            except RunError:
                torn = frames[-1].offset
                os.truncate(path, torn)
        return torn

    @property
    def done(self) -> frozenset[str]:
        """Ids of the problems on disk."""
        return frozenset(self._done)

    def append(self, record: ProblemRecord) -> int:
        """Write a problem; it is on disk when this returns.

        Returns:
            Bytes written.

        Raises:
            ConfigurationError: the run has it already.
        """
        if record.problem in self._done:
            msg = f"problem {record.problem!r} is in the run {self.folder} already"
            raise ConfigurationError(msg)
        size = append_frame(
            self.folder / RECORDS, head_of(record), arrays_of(record.group), neuron_blocks(record.group)
        )
        self._done.add(record.problem)
        return size

    def close(self) -> None:
        """Let others write; may be called twice."""
        self._lock.release()

    def __enter__(self) -> RunWriter:
        """For ``with``."""
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        """Close."""
        self.close()


def _sync_folder(folder: Path) -> None:
    """Make new names durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
