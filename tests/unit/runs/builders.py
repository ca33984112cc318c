"""Manifests and records for tests, and how to damage a file."""

from nad_agents.runs import ProblemRecord, RunManifest
from tests.unit.builders import group_of_sets


def manifest(**changes):
    values = {
        "created": "2026-01-01T00:00:00+00:00",
        "task": {"file": "own.jsonl", "sha256": "0"},
        "problems": ("a", "b", "c"),
        "model": {"name": "tiny"},
        "sampling": {"n": 2, "seed": 0},
        "config": {"top_k_neurons": 5},
    }
    return RunManifest(**{**values, **changes})


def record(problem, group=None):
    return ProblemRecord(problem, group or group_of_sets([1, 2, 3], [2, 3, 4, 50]), seed=7, task={"answer": "4"})


def overwrite(path, data):
    """In place, since a file that is emptied and written again waits for the disk."""
    with path.open("r+b") as file:
        file.write(data)
        file.truncate()
