"""Memory between blocks that are in use goes back to the operating system."""

import sys
from pathlib import Path

import pytest

from nad_agents.models import freed_memory
from nad_agents.models.freed_memory import return_freed_memory


def megabytes():
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("RssAnon")) / 1024


@pytest.mark.skipif(sys.platform != "linux" or freed_memory._malloc_trim() is None, reason="only glibc does that")
def test_what_lies_between_used_blocks_is_given_back():
    blocks = [bytearray(b"x") * 100_000 for _ in range(1000)]
    kept = blocks[::2]
    del blocks
    before = megabytes()
    return_freed_memory()
    assert before - megabytes() > 30
    assert len(kept) == 500


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(freed_memory, "_malloc_trim", lambda: None)
    return_freed_memory()
