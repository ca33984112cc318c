"""What is right passes and what only pretends does not: programs and tests from daily work, judged on both backends.

The measure for right programs is plain Python and pytest: what passes there passes here, and what fails there fails
here, for which the last comparison of every entry's tests is turned around.
"""

import os
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from nad_sandbox import BubblewrapSandbox, CodeVerifier, DockerSandbox, Limits
from nad_sandbox.checks.judge_plan import plan_tests

from tests.integration.sandbox.corpus import read_corpus
from tests.integration.sandbox.users import UserSandbox

RIGHT = {str(entry): entry for entry in read_corpus("right")}
PRETENDERS = {str(entry): entry for entry in read_corpus("pretenders")}
# for pretenders without tests of their own
STYLES = {
    "script": "assert add(1, 2) == 3\nassert add(2, 5) == 7\n",
    "pytest": "import pytest\n@pytest.mark.parametrize('a, b, c', [(1, 2, 3), (2, 5, 7)])\ndef test_add(a, b, c, capsys):\n    assert add(a, b) == c\n",
    "unittest": "import unittest\nclass T(unittest.TestCase):\n    def test_add(self):\n        self.assertEqual(add(1, 2), 3)\n        self.assertEqual(add(2, 5), 7)\n",
}
BACKENDS = {
    "docker": lambda limits: DockerSandbox(limits=limits, build=True),
    "bubblewrap": lambda limits: BubblewrapSandbox(limits=limits),
}


def negated(tests):
    before, found, after = tests.rpartition("==")
    return f"{before}!={after}" if found else None


def passes_plainly(entry, tests, folder):
    """Return whether plain Python, or pytest where there is something to collect, is content."""
    folder.mkdir()
    (folder / "solution.py").write_text(entry.program, encoding="utf-8")
    for alias in ("main", "candidate"):
        (folder / f"{alias}.py").write_text("from solution import *\n", encoding="utf-8")
    (folder / "test_it.py").write_text("from solution import *\n" + tests, encoding="utf-8")
    command = [sys.executable, "test_it.py"]
    if plan_tests(tests).kind == "pytest":
        command = [sys.executable, "-m", "pytest", "-q", "-x", "--noconftest", "-c", os.devnull, "--rootdir=."]
        command += ["-p", "no:cacheprovider", "-p", "pytest_asyncio.plugin", "-o", "asyncio_mode=auto", "test_it.py"]
    environment = {"PATH": os.environ["PATH"], "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, stdin=subprocess.DEVNULL, timeout=120, check=False
    )
    return done.returncode == 0


def styles_for(entry, number, *, everywhere):
    """The tests for a pretender: its own, all styles, or one in turn."""
    if entry.tests.strip():
        return {"own": entry.tests}
    if everywhere:
        return STYLES
    style = list(STYLES)[number % len(STYLES)]
    return {style: STYLES[style]}


@pytest.fixture(scope="module")
def plainly(tmp_path_factory):
    """Outcomes under plain Python and pytest, by entry and whether its tests are turned around; made in the background."""
    base = tmp_path_factory.mktemp("plain")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        futures = {}
        for number, (name, entry) in enumerate(RIGHT.items()):
            futures[name, False] = pool.submit(passes_plainly, entry, entry.tests, base / f"{number}")
            if negated(entry.tests):
                futures[name, True] = pool.submit(passes_plainly, entry, negated(entry.tests), base / f"{number}n")
        yield futures
        pool.shutdown(cancel_futures=True)


@pytest.fixture(scope="module", params=BACKENDS)
def judged(request):
    """Reports by program and tests, made in the background."""
    with BACKENDS[request.param](Limits(timeout=15)) as sandbox, ThreadPoolExecutor(os.cpu_count()) as pool:
        sandbox.check_available()

        def judge(entry, tests, timeout=None):
            verifier = CodeVerifier(sandbox, tests=tests, checks=("syntax", "imports"), timeout=timeout)
            return verifier.verify(f"```python\n{entry.program}\n```")

        futures = {}
        for name, entry in RIGHT.items():
            futures[name, False] = pool.submit(judge, entry, entry.tests)
            if negated(entry.tests):
                futures[name, True] = pool.submit(judge, entry, negated(entry.tests))
        for number, (name, entry) in enumerate(PRETENDERS.items()):
            for style, tests in styles_for(entry, number, everywhere=request.param == "bubblewrap").items():
                futures[name, style] = pool.submit(judge, entry, tests, 3)
        yield futures
        pool.shutdown(cancel_futures=True)


@pytest.mark.timeout(1800)  # the first waits for the sandbox and the pool
@pytest.mark.parametrize("name", RIGHT)
def test_what_passes_under_plain_pytest_passes_and_what_fails_there_fails(judged, plainly, name):
    report = judged[name, False].result()
    assert plainly[name, False].result(), "the entry itself is wrong"
    assert report.passed, report.feedback
    assert report.trust in ("separate", "same_process")
    if (name, True) in judged:
        wrong = judged[name, True].result()
        assert not plainly[name, True].result(), "the entry itself is wrong"
        assert not wrong.passed
        assert wrong.failure.check == "tests"


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", PRETENDERS)
def test_no_pretender_passes(judged, name):
    reports = {style: judged[name, style].result() for style in ("own", *STYLES) if (name, style) in judged}
    assert reports
    for style, report in reports.items():
        assert not report.passed, style
        assert report.feedback


def test_the_collections_are_as_large_as_they_claim_to_be():
    assert len(RIGHT) >= 120
    assert len(PRETENDERS) >= 100
    assert min(Counter(entry.kind for entry in PRETENDERS.values()).values()) >= 8


def test_both_judges_work_for_a_user_without_privileges():
    add = "def add(a, b):\n    return a + b\n"
    with UserSandbox(Limits(timeout=15)) as sandbox:
        sandbox.check_available()
        assert sandbox.verify(add, STYLES["script"])["trust"] == "separate"
        for style, tests in STYLES.items():
            assert sandbox.verify(add, tests)["passed"], style
            assert not sandbox.verify(add.replace("+", "-"), tests)["passed"], style
        always_equal = PRETENDERS["equality: a number that equals everything"].program
        assert not sandbox.verify(always_equal, STYLES["pytest"])["passed"]
