"""A recorded and scored run without a model, and what is measured of it."""

import pytest

from nad_agents.evaluation.evidence import collect_evidence
from nad_agents.evaluation.measures import measure_run
from nad_agents.evaluation.plan import Plan
from nad_agents.runs import RecordedRun
from tests.unit.evaluation.synthetic_runs import write_run


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("made-run"), problems=16, n=4)


@pytest.fixture(scope="session")
def run(folder):
    return RecordedRun(folder)


@pytest.fixture(scope="session")
def plan(run):
    return Plan.for_run(run)


@pytest.fixture(scope="session")
def measures(run, plan):
    return measure_run(run, plan)


@pytest.fixture(scope="session")
def evidence(measures, plan):
    return collect_evidence(measures, plan, draws=300)
