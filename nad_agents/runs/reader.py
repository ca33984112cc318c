"""Reading a run; a run that is still being recorded can be read as far as it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nad_agents.rollouts import RolloutGroup
from nad_agents.runs.framing import Frame, RunError, read_section, scan_frames
from nad_agents.runs.manifest import read_manifest
from nad_agents.runs.records import SIGNALS, group_of

__all__ = ["RECORDS", "RecordedRun"]

RECORDS = "records.nad"
"""Name of the file of records."""


class RecordedRun:
    """A recorded run; opening it reads the records' heads, the arrays are read on demand.

    Args:
        folder: of the run.

    Attributes:
        manifest: what it was recorded with.
        incomplete: offset of a last record that is cut off or being written, None when there is none.

    Raises:
        RunError: there is no run, or its file is damaged; the message names problem and offset.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.manifest = read_manifest(self.folder)
        frames, self.incomplete = scan_frames(self.folder / RECORDS)
        self._frames = {frame.problem: frame for frame in frames}

    def __len__(self) -> int:
        """Number of recorded problems."""
        return len(self._frames)

    @property
    def problems(self) -> list[str]:
        """Ids of the recorded problems, in the order of recording."""
        return list(self._frames)

    def head(self, problem: str) -> Mapping[str, Any]:
        """The head of a problem's record, see `nad_agents.runs.records`."""
        return self._frame(problem).head

    def group(self, problem: str, *, neurons: bool = True) -> RolloutGroup:
        """The candidates of a problem.

        Args:
            problem: its id.
            neurons: False leaves the activated neurons on disk, which is faster; selectors that need them then fail.

        Raises:
            RunError: no such problem, or its record is damaged.
        """
        frame, path = self._frame(problem), self.folder / RECORDS
        arrays = {name: read_section(path, frame, name) for name in SIGNALS}
        names = [s["name"] for s in frame.head["sections"] if s["name"].startswith("neurons/")] if neurons else []
        blocks = [read_section(path, frame, name) for name in names]
        tokens = len(arrays["token_ids"])
        return group_of(frame.head, arrays, np.concatenate(blocks) if blocks else np.empty((tokens, 0), dtype=np.int32))

    def groups(self, *, neurons: bool = True) -> Iterator[RolloutGroup]:
        """The candidates of every problem, one problem in memory at a time."""
        return (self.group(problem, neurons=neurons) for problem in self.problems)

    def check(self) -> None:
        """Read every byte.

        Raises:
            RunError: a record is damaged, or the last one is incomplete.
        """
        for problem in self.problems:
            self.group(problem)
        if self.incomplete is not None:
            waiting = [name for name in self.manifest.problems if name not in self._frames]
            last = f"problem {waiting[0]!r}" if waiting else "a problem"
            msg = (
                f"{self.folder / RECORDS} ends within the record that begins at byte {self.incomplete} ({last}); "
                "resume the run, which records it again"
            )
            raise RunError(msg)

    def _frame(self, problem: str) -> Frame:
        if problem not in self._frames:
            some = ", ".join(self.problems[:5])
            msg = f"the run {self.folder} has no problem {problem!r} among its {len(self)}, such as {some}"
            raise RunError(msg)
        return self._frames[problem]
