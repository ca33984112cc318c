"""The observer: it runs a program twice on the same inputs, each input under its own time limit.

It reads one JSON object from standard input and writes one line to standard output: the nonce, and for every input its
outcome and whether both runs agree. The two runs are separate processes with different hash seeds, so that an outcome
that depends on either shows up as not deterministic.
"""

from __future__ import annotations

import hashlib
import json
import os
import select
import subprocess
import sys
import time

from nad_sandbox.harness.child import read_payload, write_verdict

OBSERVED_PROGRAM = globals().get("OBSERVED_PROGRAM", "")
MOST_TIMEOUTS = 3


class Caller:
    """Starts the process that makes the calls, and talks to it."""

    def __init__(self, source, seconds):
        ours_in, theirs_out = os.pipe()
        theirs_in, ours_out = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-c", OBSERVED_PROGRAM, str(theirs_in), str(theirs_out)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(theirs_in, theirs_out),
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self.requests, self.answers, self.pending = ours_out, ours_in, b""
        self.loaded = self.ask(source, seconds)

    def ask(self, message, seconds):
        """Send a message and return the answer; when none comes, return a dictionary with the reason under `ended`."""
        data = (json.dumps(message) + "\n").encode()
        try:
            while data:
                data = data[os.write(self.requests, data) :]
        except BrokenPipeError:
            return {"ended": "exit"}
        deadline = time.monotonic() + seconds
        while b"\n" not in self.pending:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.answers], [], [], left)[0]:
                return {"ended": "timeout"}
            part = os.read(self.answers, 1 << 20)
            if not part or len(self.pending) > 1 << 24:
                return {"ended": "exit"}
            self.pending += part
        line, self.pending = self.pending.split(b"\n", 1)
        try:
            answer = json.loads(line)
        except (ValueError, RecursionError, MemoryError):
            answer = None
        return answer if isinstance(answer, dict) else {"ended": "exit"}

    def stop(self):
        """Kill the process and close its pipes."""
        self.process.kill()
        self.process.wait()
        os.close(self.requests)
        os.close(self.answers)


def call_all(source, calls, seconds, load_seconds, deadline):
    """Return the outcome of every call, made in a process that is replaced when a call ends or blocks it."""
    outcomes, caller, timeouts = [], None, 0
    for call in calls:
        if timeouts >= MOST_TIMEOUTS or time.monotonic() > deadline:
            outcomes.append({"ended": "timeout"})
            continue
        if caller is None:
            caller = Caller(source, load_seconds)
        if caller.loaded:
            outcomes.append(caller.loaded)
            timeouts += caller.loaded.get("ended") == "timeout"
            continue
        told = caller.ask(call, seconds)
        outcomes.append(told)
        if "ended" in told:
            timeouts += told["ended"] == "timeout"
            caller.stop()
            caller = None
    if caller is not None:
        caller.stop()
    return outcomes


def run_all(source, inputs, seconds, deadline):
    """Run the program as a script on each standard input, and return what it prints or how it fails."""
    outcomes, timeouts = [], 0
    with open("program.py", "w", encoding="utf-8", errors="surrogatepass") as file:
        file.write(source)
    for given in inputs:
        if timeouts >= MOST_TIMEOUTS or time.monotonic() > deadline:
            outcomes.append({"ended": "timeout"})
            continue
        process = subprocess.Popen(
            [sys.executable, "-I", "program.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            out, err = process.communicate(given.encode("utf-8", "surrogatepass"), timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            timeouts += 1
            outcomes.append({"ended": "timeout"})
            continue
        told = {"printed": out.decode("utf-8", "replace")} if out else {}
        if process.returncode:
            last = (err.decode("utf-8", "replace").strip().splitlines() or [""])[-1]
            told["raised"] = last.split(":")[0] if process.returncode == 1 else "status %d" % process.returncode
        else:
            told["returned"] = None
        outcomes.append(told)
    return outcomes


def main():
    """Observe the program twice and write the outcomes."""
    payload = read_payload()
    deadline = time.monotonic() + payload["seconds"]
    runs = []
    for share in (0.5, 1.0):
        until = deadline - (1 - share) * payload["seconds"]
        if payload["kind"] == "call":
            told = call_all(payload["source"], payload["inputs"], payload["each"], payload["load"], until)
        else:
            told = run_all(payload["source"], payload["inputs"], payload["each"], until)
        runs.append([bounded(outcome, payload["room"]) for outcome in told])
    seen = [dict(first, stable=first == second) for first, second in zip(*runs)]
    write_verdict(payload["nonce"], seen)


def bounded(outcome, room):
    """Return an outcome with a digest in place of each long part, since the sandbox's output is capped."""
    kept = {}
    for part, value in outcome.items():
        text = json.dumps(value)
        kept[part] = value
        if len(text) > room:
            kept[part] = ["long", len(text), hashlib.sha256(text.encode()).hexdigest()]
    return kept
