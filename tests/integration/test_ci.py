"""On CI a test that cannot run is a failure."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = """
import pytest

def test_that_finds_no_engine():
    pytest.skip("no engine")

@pytest.fixture
def model():
    pytest.skip("no model")

def test_that_finds_no_model(model):
    pass

@pytest.mark.skipif(True, reason="another machine's")
def test_of_another_machine():
    pass

@pytest.mark.xfail(reason="known")
def test_that_fails_as_expected():
    assert False
"""


@pytest.mark.parametrize(
    ("ci", "status", "summary"),
    [("true", 1, "1 failed, 1 skipped, 1 xfailed, 1 error in"), ("", 0, "3 skipped, 1 xfailed in")],
    ids=["on CI", "at home"],
)
def test_a_test_that_skips_itself_fails_on_ci_only(ci, status, summary, tmp_path):
    shutil.copy(Path(__file__).parents[1] / "conftest.py", tmp_path)
    (tmp_path / "test_it.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tmp_path)]
    environment = {**os.environ, "CI": ci}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=60)
    assert done.returncode == status, done.stdout
    assert summary in done.stdout.splitlines()[-1]
