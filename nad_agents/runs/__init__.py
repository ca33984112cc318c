"""Runs on disk: record the candidates of many problems once, then select from them again without a model.

A run is a folder:

- ``run.json``: settings, problems, model and versions (`RunManifest`).
- ``records.nad``: one checksummed record per problem, appended when its candidates are complete
  (`nad_agents.runs.record_file` documents the bytes, `nad_agents.runs.records` the contents).
- ``verdicts.jsonl``: whether each candidate is correct, written by scoring; it can be deleted and made again.

Reading a run needs numpy but not torch.

>>> from nad_agents.runs import RecordedRun
>>> for group in RecordedRun("my-run").groups():  # doctest: +SKIP
...     print(group.prompt, len(group))
"""

from __future__ import annotations

from nad_agents.runs.manifest import RunManifest
from nad_agents.runs.reader import RecordedRun
from nad_agents.runs.record_file import FORMAT_VERSION, RunError
from nad_agents.runs.records import ProblemRecord
from nad_agents.runs.writer import RunWriter

__all__ = ["FORMAT_VERSION", "ProblemRecord", "RecordedRun", "RunError", "RunManifest", "RunWriter"]
