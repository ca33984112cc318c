"""The supervisor: it never loads the program, asks both judges, and writes the verdict.

Both children are forked before the payload is read, so that neither holds the nonce and the second holds no test.
Only this process can write to the sandbox's standard output.
"""

from __future__ import annotations

import os
import re
import sys
import time

from nad_sandbox.harness.call_server import serve_calls
from nad_sandbox.harness.child import TEXT, Child, ProgramEndedError, read_payload, write_verdict
from nad_sandbox.harness.io_pairs import check_pairs
from nad_sandbox.harness.program import SHORT
from nad_sandbox.harness.same_process import FailedError, serve_same_process
from nad_sandbox.harness.separate_process import CannotJudgeError, Program, confirm_examples, confirm_tests

PREPARATION_SECONDS = 10.0  # importing pytest on a busy machine is not the program's time
MOST_NOTES = 1000
SEPARATE, SAME_PROCESS = "separate", "same_process"
INNER_NAMES = (
    r"\b(f_locals|f_globals|f_builtins|f_trace|f_lineno *=|co_consts|co_code|code_context|__globals__|__closure__"
    r"|cell_contents)\b|\.__builtins__\b"
)
CALLERS = r"\b(_getframe|currentframe|f_back|extract_stack|stack\(\))"
FIELDS = ("assertion", "expected", "got", "error", "where", "output")


class UnsupportedError(Exception):
    """Raised when the tests cannot be run here, whatever the program."""


class Supervisor:
    """Runs the checks on one program and collects their results.

    Args:
        payload: Program, tests and checks as a dictionary; see `nad_sandbox.checks.verifier`.
        first: The process of the first judge.
        second: The process in which the second judge calls the program.
    """

    def __init__(self, payload, first, second):
        self.payload = payload
        self.first, self.second = first, second
        self.checks = payload["checks"]
        self.examples = payload["examples"] if "examples" in self.checks else []
        self.results = []
        self.trust = SAME_PROCESS
        self.inner = [found[0] for found in re.finditer(INNER_NAMES, payload["source"])]

    def judge(self):
        """Run the checks in order until one fails.

        Raises:
            UnsupportedError: The tests cannot be run here.
        """
        loading = [check for check in self.checks if check != "pairs"]
        if self.examples or "tests" in self.checks:
            passed = self.ask_first(loading) and self.ask_second()
        else:
            passed = self.load_only(loading)
        if passed and "pairs" in self.checks:
            pairs = self.payload["pairs"]
            self.run("pairs", lambda: check_pairs(self.payload["source"], pairs, self.deadline()))

    def deadline(self):
        """Return the time of the monotonic clock by which a step that starts now must end."""
        return time.monotonic() + self.payload["seconds"]

    def run(self, name, action, child=None):
        """Run one check, and return whether it passed."""
        started = time.monotonic()
        try:
            action()
        except FailedError as error:
            self.fail(name, error.detail, started, child)
            return False
        except ProgramEndedError as error:
            self.fail(name, {"error": str(error)}, started, child)
            return False
        self.results.append({"check": name, "passed": True, "seconds": time.monotonic() - started})
        return True

    def fail(self, name, detail, started, child=None):
        """Record a failed check; its detail may come from the program's process and hold anything."""
        told = {field: detail[field][:SHORT] for field in FIELDS if type(detail.get(field)) is str}
        if type(detail.get("test_line")) is int:
            told["test_line"] = detail["test_line"]
        if child is not None and "output" not in told:
            child.drain_output()
            told["output"] = child.output.decode("utf-8", "replace")[-TEXT:]
        self.results.append({"check": name, "passed": False, "seconds": time.monotonic() - started, **told})

    def ask_first(self, checks):
        """Have the first judge run all checks, and return whether they passed."""
        token = os.urandom(16).hex()
        self.first.deadline = self.deadline() + PREPARATION_SECONDS
        self.first.send(
            {
                "token": token,
                "checks": checks,
                "examples": self.examples,
                **{name: self.payload[name] for name in ("source", "tests", "plan")},
            }
        )
        started = time.monotonic()
        checks = iter(checks)
        check = next(checks)
        try:
            # no part of the program has run before this answer
            answer = self.first.receive(token.encode())
            if type(answer.get("unsupported")) is str:
                raise UnsupportedError(answer["unsupported"])
            self.first.deadline = self.deadline()
            while check is not None:
                answer = self.receive_first(token)
                if answer.get("check") != check or type(answer.get("passed")) is not bool:
                    raise ProgramEndedError("the program wrote into the answers of its process")
                if not answer["passed"]:
                    detail = answer.get("detail")
                    self.fail(check, detail if type(detail) is dict else {}, started, self.first)
                    return False
                now = time.monotonic()
                self.results.append({"check": check, "passed": True, "seconds": now - started})
                started, check = now, next(checks, None)
            check = self.results[-1]["check"]
            if self.receive_first(token).get("end") is not True:
                raise ProgramEndedError("the program wrote into the answers of its process")
        except ProgramEndedError as error:
            self.results = [result for result in self.results if result["check"] != check]
            self.fail(check, {"error": str(error)}, started, self.first)
            return False
        return True

    def receive_first(self, token):
        """Return the first judge's next answer, and record the notes that it sends before the answer."""
        while True:
            answer = self.first.receive(token.encode())
            if type(answer.get("note")) is not str or len(self.inner) > MOST_NOTES:
                return answer
            self.inner.append(answer["note"][:TEXT])

    def ask_second(self):
        """Confirm the first judge's pass where the tests are plain enough, and return whether it stands."""
        self.first.stop()
        reason = self.payload["plan"]["not_plain"] if "tests" in self.checks else ""
        name = "tests" if "tests" in self.checks else "examples"
        started = time.monotonic()
        if not reason:
            try:
                program = Program(self.second, self.payload["source"], self.deadline())
                program.start(load=True)
                program.expect("syntax")
                program.expect("load")
                name = "examples"
                confirm_examples(program, self.examples)
                if "tests" in self.checks:
                    name = "tests"
                    confirm_tests(program, self.payload["tests"], self.payload["plan"])
            except CannotJudgeError as error:
                reason = str(error)
            except FailedError as error:
                if not re.search(CALLERS, self.payload["source"]):
                    return self.refute(name, error.detail, started)
                reason = "it looks at its callers, who are others in a separate process"
            except ProgramEndedError as error:
                return self.refute(name, {"error": str(error)}, started)
        if not reason:
            self.trust = SEPARATE
            return True
        if self.payload["require_trust"] == SEPARATE:
            return self.refute(name, {"error": "it cannot be judged in a separate process: " + reason}, started)
        if self.inner:
            said = "the program reaches into the interpreter (%s), so that passing its tests proves nothing: %s"
            return self.refute(name, {"error": said % (", ".join(sorted(set(self.inner))), reason)}, started)
        return True

    def refute(self, name, detail, started):
        """Replace a check that the first judge passed, and all later ones, by a failed check."""
        names = [result["check"] for result in self.results]
        del self.results[names.index(name) :]
        self.trust = SEPARATE
        self.fail(name, detail, started)
        return False

    def load_only(self, checks):
        """Compile and load a program for which there is nothing to test, and return whether that succeeds."""
        program = Program(self.second, self.payload["source"], self.deadline())
        if not checks:
            return True
        self.trust = SEPARATE
        load = "imports" in checks
        program.start(load=load)
        passed = self.run("syntax", lambda: program.expect("syntax"), self.second)
        if "syntax" not in checks and passed:
            self.results.clear()
        if passed and load:
            passed = self.run("imports", lambda: program.expect("load"), self.second)
        if passed and "examples" in checks:
            self.run("examples", lambda: None)
        return passed


def main():
    """Fork both children before the payload is read, then judge the program, write the verdict and end the process."""
    first, second = Child(serve_same_process), Child(serve_calls)
    payload = read_payload()
    supervisor = Supervisor(payload, first, second)
    verdict = {"python": "%d.%d.%d" % sys.version_info[:3]}
    try:
        supervisor.judge()
        verdict.update(checks=supervisor.results, trust=supervisor.trust)
    except UnsupportedError as error:
        verdict["unsupported"] = str(error)
    for child in (first, second):
        if child.status is None:
            os.kill(child.pid, 9)
    write_verdict(payload["nonce"], verdict)
