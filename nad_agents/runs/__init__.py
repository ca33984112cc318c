"""Runs on disk: the candidates of many problems, recorded once, selected from again without a model.

A run is a folder:

- ``run.json``: settings, problems, model, versions (`RunManifest`).
- ``records.nad``: one checksummed record per problem, appended when its candidates are complete
  (`nad_agents.runs.framing` documents the bytes, `nad_agents.runs.records` the contents).
- ``verdicts.jsonl``: whether candidates are correct, written by scoring; may be deleted and made again.

Reading needs numpy and no torch.

>>> from nad_agents.runs import RecordedRun
>>> for group in RecordedRun("my-run").groups():  # doctest: +SKIP
...     print(group.prompt, len(group))
"""

from __future__ import annotations

from nad_agents.runs.framing import FORMAT_VERSION, RunError
from nad_agents.runs.manifest import RunManifest
from nad_agents.runs.reader import RecordedRun
from nad_agents.runs.records import ProblemRecord
from nad_agents.runs.writer import RunWriter

__all__ = ["FORMAT_VERSION", "ProblemRecord", "RecordedRun", "RunError", "RunManifest", "RunWriter"]
