"""The command `nad`, run in this process."""

import sys

import pytest


@pytest.fixture
def nad(monkeypatch, capsys):
    """Run `nad ARGS` in this process; returns (exit code, stdout, stderr)."""
    from nad_agents.cli import main

    def run(*args):
        monkeypatch.setattr(sys, "argv", ["nad", *map(str, args)])
        monkeypatch.setenv("COLUMNS", "120")
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return ended.value.code, out, err

    return run
