"""The cache of converted models between processes that race, live and are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nad_agents.models import describe_cache
from nad_agents.models.cache import cached_folder, find_cached


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NAD_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


BUILDER = """
import sys, time
from pathlib import Path
from typing import ClassVar
from nad_agents.models.cache import cached_folder

own, seconds = sys.argv[1], float(sys.argv[2])

def build(folder: Path) -> dict:
    (folder / "first").write_text(own)
    print("building", flush=True)
    time.sleep(seconds)
    (folder / "second").write_text(own)
    return {"builder": own}

print("ready", flush=True)
sys.stdin.readline()
found = cached_folder("shared", build, on_wait=lambda: print("waiting", flush=True))
print("done", (found / "first").read_text(), (found / "second").read_text(), flush=True)
"""


@contextmanager
def start_builder(name: str, seconds: float) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(BUILDER), name, str(seconds)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def read_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


class TestCacheBetweenProcesses:
    def test_two_race_and_one_builds(self, own_cache):
        with start_builder("a", 1.0) as a, start_builder("b", 1.0) as b:
            assert (read_line(a), read_line(b)) == ("ready", "ready")
            go(a)
            go(b)
            out_a, out_b = (process.communicate(timeout=60)[0].split("\n") for process in (a, b))
        assert (a.returncode, b.returncode) == (0, 0)
        assert sorted([out_a[0], out_b[0]]) == ["building", "waiting"]
        assert out_a[1] == out_b[1]  # both read the same finished folder
        assert out_a[1] in {"done a a", "done b b"}
        assert [path.name for path in (own_cache / "models").iterdir() if path.is_dir()] == ["shared"]

    @pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
    def test_killed_half_way_leaves_no_entry_and_is_cleaned_up(self, own_cache):
        with start_builder("victim", 600) as victim:
            assert read_line(victim) == "ready"
            go(victim)
            assert read_line(victim) == "building"
            victim.send_signal(signal.SIGKILL)
            victim.wait(timeout=30)
        folders = [path for path in (own_cache / "models").iterdir() if path.is_dir()]
        assert len(folders) == 1, "the kill came too early to leave anything"
        assert (folders[0] / "first").read_text() == "victim"
        assert find_cached("shared") is None
        assert describe_cache() == ()
        # any later build removes it, also one of another key
        cached_folder("other", lambda folder: {})
        assert not folders[0].exists()
        found = cached_folder("shared", lambda folder: {"n": (folder / "first").write_text("heir")})
        assert (found / "first").read_text() == "heir"

    def test_a_living_build_is_not_cleaned_up(self, own_cache):
        with start_builder("slow", 2.0) as slow:
            assert read_line(slow) == "ready"
            go(slow)
            assert read_line(slow) == "building"
            cached_folder("other", lambda folder: {})
            assert slow.communicate(timeout=60)[0].strip() == "done slow slow"
