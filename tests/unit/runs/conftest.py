"""A run of two records."""

import pytest

from nad_agents.runs import RunWriter
from nad_agents.runs.reader import RECORDS
from tests.unit.builders import group_of_sets
from tests.unit.runs.builders import manifest, record


@pytest.fixture
def two_records(tmp_path):
    with RunWriter(tmp_path, manifest()) as writer:
        writer.append(record("a"))
        first = (tmp_path / RECORDS).stat().st_size
        writer.append(record("b", group_of_sets([7, 8], [8, 9])))
    return tmp_path, first
