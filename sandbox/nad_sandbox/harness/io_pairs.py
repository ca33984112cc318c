"""Check programs that read standard input: each pair is one run of the program as a script."""

from __future__ import annotations

import sys
import time

from nad_sandbox.harness.child import TEXT
from nad_sandbox.harness.program import PROGRAM_FILE, short_repr
from nad_sandbox.harness.same_process import FailedError


def check_pairs(source, pairs, deadline):
    """Run the program on each input and compare its output; trailing spaces and line ends are ignored.

    Raises:
        FailedError: The program printed something else, failed or did not end in time.
    """
    import subprocess

    with open(PROGRAM_FILE, "w", encoding="utf-8", errors="surrogatepass") as file:
        file.write(source)
    for given, expected in pairs:
        process = subprocess.Popen(
            [sys.executable, "-I", PROGRAM_FILE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        asked = "input %s" % short_repr(given)
        try:
            left = max(0.01, deadline - time.monotonic())
            out, err = process.communicate(given.encode("utf-8", "surrogatepass"), timeout=left)
        except subprocess.TimeoutExpired:
            process.kill()
            raise FailedError(assertion=asked, error="no end within the time limit") from None
        printed = out.decode("utf-8", "replace")
        if process.returncode != 0:
            last = err.decode("utf-8", "replace").strip().splitlines()[-1:] or [""]
            error = "status %d: %s" % (process.returncode, last[0][:TEXT])
            raise FailedError(assertion=asked, expected=expected[:TEXT], got=printed[-TEXT:], error=error)
        if lines(printed) != lines(expected):
            raise FailedError(assertion=asked, expected=expected[:TEXT], got=printed[:TEXT])


def lines(text):
    """Return the lines of an output without trailing spaces and without blank space at its beginning and end."""
    return [line.rstrip() for line in text.strip().splitlines()]
