"""The Python of the page on Inspect runs, before the other tests, since Inspect's first evaluation sets the display."""

from pathlib import Path

import pytest

from tests.integration.page_blocks import run_page

ROOT = Path(__file__).parents[2]

# Inspect leaves streams of its own for the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore:Unclosed <MemoryObject:ResourceWarning")


def test_the_python_of_the_page_runs(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    run_page(ROOT / "docs" / "integrations" / "inspect-ai.md", monkeypatch)
