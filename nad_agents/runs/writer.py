"""Record a run problem by problem, so that it can be resumed after being killed at any moment."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

from nad_agents.exceptions import ConfigurationError
from nad_agents.runs.folder import check_run_folder, make_folder
from nad_agents.runs.manifest import RunManifest, read_manifest, write_manifest
from nad_agents.runs.reader import RECORDS, RecordedRun
from nad_agents.runs.record_file import RunError, append_record, create_record_file, scan_records
from nad_agents.runs.records import ProblemRecord, neuron_blocks, record_header, token_arrays

__all__ = ["RunWriter"]


class RunWriter:
    """Appends problems to a run; only one writer at a time can have the run open.

    Args:
        folder: The run's folder, created if absent.
        manifest: The settings that the run is recorded with.
        resume: Whether to continue a run that exists; its settings must be the same.

    Attributes:
        folder: The run's folder.
        lost: Offset at which an incomplete last record was cut off on opening; None if there was none.

    Raises:
        ConfigurationError: The folder cannot be made, a run exists and `resume` is False, or it was recorded with other
            settings.
        RunError: Another process is writing the run, or its record file is damaged before the last record.
    """

    def __init__(self, folder: str | Path, manifest: RunManifest, *, resume: bool = False) -> None:
        self.folder = Path(folder)
        make_folder(self.folder)
        self._lock = FileLock(self.folder / ".lock")
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            msg = f"another process is recording {self.folder}; wait for it, or record into another folder"
            raise RunError(msg) from error
        try:
            self.lost = self._open(manifest, resume=resume)
            self._done = {frame.problem for frame in scan_records(self.folder / RECORDS)[0]}
        except BaseException:
            self._lock.release()
            raise

    def _open(self, manifest: RunManifest, *, resume: bool) -> int | None:
        """Create the files of the run or check those it has; returns the offset at which a torn record was cut off."""
        path = self.folder / RECORDS
        if not (self.folder / "run.json").exists():
            if path.exists() and path.stat().st_size > 8:
                msg = f"{self.folder} holds records but no run.json; restore it, or record into another folder"
                raise RunError(msg)
            # a process killed between creating the two files leaves a record file without records
            path.unlink(missing_ok=True)
            create_record_file(path)
            write_manifest(self.folder, manifest)
            _sync_folder(self.folder)
            return None
        check_run_folder(self.folder, resume=resume)
        different = read_manifest(self.folder).differences(manifest)
        if different:
            msg = f"{self.folder} was recorded with other settings ({'; '.join(different)}); use another folder"
            raise ConfigurationError(msg)
        frames, torn = scan_records(path)
        if torn is not None:
            os.truncate(path, torn)
        elif frames:
            # after a power failure the file may have its full length but not all of its bytes
            try:
                RecordedRun(self.folder).group(frames[-1].problem)
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
            Number of bytes written.

        Raises:
            ConfigurationError: The run has the problem already.
        """
        if record.problem in self._done:
            msg = f"problem {record.problem!r} is in the run {self.folder} already"
            raise ConfigurationError(msg)
        size = append_record(
            self.folder / RECORDS, record_header(record), token_arrays(record.group), neuron_blocks(record.group)
        )
        self._done.add(record.problem)
        return size

    def close(self) -> None:
        """Release the run for other writers; calling it again does nothing."""
        self._lock.release()

    def __enter__(self) -> RunWriter:
        """Return the writer itself."""
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        """Close the writer."""
        self.close()


def _sync_folder(folder: Path) -> None:
    """Flush a folder to disk, which makes the names of new files durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
