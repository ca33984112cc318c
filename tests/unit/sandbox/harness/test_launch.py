"""Programs of the harness: compiled once for each sandbox, and run by any sandbox."""

from dataclasses import dataclass, field

from nad_sandbox import ExecResult
from nad_sandbox.harness.launch import run_harness


@dataclass
class Listed:
    """A user's sandbox, which as a plain dataclass has no hash."""

    ran: list = field(default_factory=list)

    def run_python(self, code, *, stdin=b"", files=None, timeout=None):
        self.ran.append((code, stdin))
        return ExecResult(0, "", "", 0.0)


def test_a_sandbox_that_cannot_be_a_key_runs_the_source_each_time():
    sandbox = Listed()
    for _ in range(3):
        run_harness(sandbox, "program", b"in", timeout=1)
    assert len(sandbox.ran) == 3
    assert all("'program'" in code and stdin == b"\0" * 7 + b"\2in" for code, stdin in sandbox.ran)
