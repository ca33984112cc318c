"""Each sandbox runs as a user of its own, so that none uses up what the kernel grants to a user."""

import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from nad_sandbox import CodeVerifier
from nad_sandbox.isolation.sandbox_user import UNUSED_USERS

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give sandboxes other users")

EXHAUST = """
import ctypes, time
libc = ctypes.CDLL(None)
count = 0
while count < 250 and libc.inotify_init() >= 0:
    count += 1
print(count, flush=True)
time.sleep(1.5)
"""
ONE = "import ctypes\nprint(ctypes.CDLL(None).inotify_init() >= 0)"


def test_programs_side_by_side_are_different_users_and_none_is_known_to_the_host(sandbox):
    look = "import os, time\nprint(os.getuid())\ntime.sleep(0.2)"
    with ThreadPoolExecutor(4) as threads:
        users = {int(result.stdout) for result in threads.map(sandbox.run_python, [look] * 4)}
    assert len(users) == 4
    assert all(user in UNUSED_USERS for user in users)


def test_one_that_uses_up_its_users_quota_leaves_the_others_theirs(sandbox):
    with ThreadPoolExecutor(1) as threads:
        greedy = threads.submit(sandbox.run_python, EXHAUST)
        time.sleep(0.8)
        assert sandbox.run_python(ONE).stdout == "True\n"
    assert int(greedy.result().stdout) >= 64


def test_a_program_that_asks_for_its_name_and_home_finds_them(sandbox):
    look = "import getpass, os\nprint(getpass.getuser(), os.path.expanduser('~') == os.getcwd())"
    assert sandbox.run_python(look).stdout == "nobody True\n"


def test_the_version_of_python_is_in_the_result_and_in_the_report(sandbox):
    told = sandbox.run_python("import platform\nprint(platform.python_version())")
    assert told.python_version == told.stdout.strip()
    assert CodeVerifier(sandbox).verify("x = 1").python_version == told.python_version
