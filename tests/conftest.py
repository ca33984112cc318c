"""Shared by every test: settings of the process, and what a skipped test means on CI."""

import gc
import os

import pytest

# before torch is imported: two processes with two threads each slow one another down on a small machine
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# half a million objects of imported modules live to the end; no garbage collection needs to look through them
gc.disable()


def pytest_collection_finish():
    gc.freeze()
    gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Let a test that skips itself fail on CI, where no engine, model or program may be missing.

    A `skipif` mark names a machine on which the test says nothing, and stays a skip. The suites of LangChain in
    tests/standard skip what a model does not offer.
    """
    report = yield
    on_ci, skipped = os.environ.get("CI") == "true", report.skipped and not hasattr(report, "wasxfail")
    allowed = item.get_closest_marker("skipif") is not None or "standard" in item.path.parts
    if on_ci and skipped and not allowed:
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} skipped itself, which is a failure on CI: {call.excinfo.value}"
    return report
