"""Read a recorded run; one that is still being recorded can be read up to its last complete record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nad_agents.rollouts import RolloutGroup
from nad_agents.runs.manifest import read_manifest
from nad_agents.runs.record_file import RecordFrame, RunError, read_section, scan_records
from nad_agents.runs.records import SIGNALS, rebuild_group

__all__ = ["RECORDS", "RecordedRun"]

RECORDS = "records.nad"
"""Name of the record file in a run's folder."""


class RecordedRun:
    """A recorded run, whose headers are read at once and whose arrays are read on demand.

    Args:
        folder: The run's folder.

    Attributes:
        folder: The run's folder.
        manifest: The settings that the run was recorded with.
        incomplete: Offset of a last record that was cut off or is being written; None if there is none.

    Raises:
        RunError: The folder holds no run, or its record file is damaged; the message names problem and offset.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.manifest = read_manifest(self.folder)
        frames, self.incomplete = scan_records(self.folder / RECORDS)
        # several recorders at a time complete problems in another order, which no figure is to depend on
        order = {problem: place for place, problem in enumerate(self.manifest.problems)}
        frames = sorted(frames, key=lambda frame: order.get(frame.problem, len(order)))
        self._frames = {frame.problem: frame for frame in frames}

    def __len__(self) -> int:
        """Return the number of recorded problems."""
        return len(self._frames)

    @property
    def problems(self) -> list[str]:
        """Ids of the recorded problems, in the order of the manifest."""
        return list(self._frames)

    def header(self, problem: str) -> Mapping[str, Any]:
        """Return the header of a problem's record; `nad_agents.runs.records` documents its keys."""
        return self._frame(problem).header

    def group(self, problem: str, *, neurons: bool = True) -> RolloutGroup:
        """Read the candidates of a problem.

        Args:
            problem: The problem's id.
            neurons: Whether to read the activated neurons; without them reading is faster, but selectors that compare
                neurons cannot be used.

        Raises:
            RunError: The run has no such problem, or its record is damaged.
        """
        frame, path = self._frame(problem), self.folder / RECORDS
        arrays = {name: read_section(path, frame, name) for name in SIGNALS}
        names = [s["name"] for s in frame.header["sections"] if s["name"].startswith("neurons/")] if neurons else []
        blocks = [read_section(path, frame, name) for name in names]
        tokens = len(arrays["token_ids"])
        return rebuild_group(
            frame.header, arrays, np.concatenate(blocks) if blocks else np.empty((tokens, 0), dtype=np.int32)
        )

    def groups(self, *, neurons: bool = True) -> Iterator[RolloutGroup]:
        """Read the candidates of every problem, holding one problem at a time in memory."""
        return (self.group(problem, neurons=neurons) for problem in self.problems)

    def check(self) -> None:
        """Read every byte of the run.

        Raises:
            RunError: A record is damaged, or the last one is incomplete.
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

    def _frame(self, problem: str) -> RecordFrame:
        if problem not in self._frames:
            some = ", ".join(self.problems[:5])
            msg = f"the run {self.folder} has no problem {problem!r} among its {len(self)}, such as {some}"
            raise RunError(msg)
        return self._frames[problem]
