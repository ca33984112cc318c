"""The judge: holds tests, expected values and the nonce, and never runs a line of the candidate.

Reads one JSON object on standard input, writes one line on standard output: the nonce and the results as JSON. Only
this process can write there, and only it knows the nonce.
"""

from __future__ import annotations

import ast
import contextlib
import ctypes
import io
import json
import math
import os
import sys
import time

from nad_sandbox.harness.asserting import TEXT, CheckError, TestsError, short
from nad_sandbox.harness.candidate import Candidate, CandidateEndError
from nad_sandbox.harness.codec import decode
from nad_sandbox.harness.running import run_tests


def similar(a, b):
    """Equality as an example means it: floats to 6 digits, lists and tuples alike."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b or (type(a) is type(b) and a == b)
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        return a == b or math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9) or (a != a and b != b)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(similar, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(similar(a[key], b[key]) for key in a)
    return a == b


def run_examples(candidate, scope, examples):
    """Each example: evaluated here, with functions that are called there; see `nad_sandbox.examples.Comparison`."""
    for example in examples:
        call, expected, comparison = example["call"], example["expected"], example["comparison"]
        if not set(example["names"]) <= set(scope):
            missing = sorted(set(example["names"]) - set(scope))
            raise CheckError(call, expected, "", "%s is not defined by the program" % ", ".join(missing))
        with contextlib.redirect_stdout(io.StringIO()) as out:
            try:
                got = eval(compile(call, "<example>", "eval"), dict(scope))
            except Exception as error:
                if comparison != "error":
                    raise
                text = getattr(error, "nad_text", None) or "%s: %s" % (type(error).__name__, error)
                text = text.strip().rstrip(":")
                if raised_as(error, text, expected, example["options"]):
                    continue
                raise CheckError(call, expected, text) from None
        printed = out.getvalue()
        if comparison == "error":
            raise CheckError(call, expected, "no exception, but " + short(got))
        try:
            value, shown = ast.literal_eval(expected), None
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            value, shown = None, expected
        if comparison == "approximate":
            good = approximately(got, expected)
        elif comparison == "output":
            good = shows(got, printed, expected, example["options"])
        else:
            good = similar(got, value)
        if not good:
            text = printed.rstrip("\n") if printed and got is None else short(got)
            wanted = shown if comparison == "output" and shown is not None else short(value)
            wanted = "about " + expected if comparison == "approximate" else wanted
            if text == wanted:
                # written alike, and not equal: what differs is the type, or that it is printed
                text += ", printed" if printed and got is None else ", of type %s" % type(got).__name__
            raise CheckError(call, wanted, text)


def shows(got, printed, expected, options):
    """Whether an interactive session would show what is expected, or the value that is."""
    shown = printed + ("" if got is None else repr(got) + "\n")
    if shown.strip() == expected.strip() or (options and checked(expected, shown, options)):
        return True
    try:
        value = ast.literal_eval(expected)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        # text that a string's quotes were left out of, or what doctest's options allow
        return (isinstance(got, str) and not printed and got.strip() == expected.strip()) or checked(
            expected, shown, options
        )
    if not printed:
        return similar(got, value)
    if got is not None:
        return False
    if isinstance(value, str) and printed.strip() == value.strip():
        return True
    try:
        return similar(ast.literal_eval(printed.strip()), value)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return checked(expected, shown, options)


def checked(expected, shown, options):
    """What doctest says of an output."""
    import doctest

    return doctest.OutputChecker().check_output(expected.rstrip("\n") + "\n", shown, options)


def raised_as(error, text, expected, options):
    """Whether an exception is the expected one: its class or a base, or, with a message, as doctest compares it."""
    kind, colon, message = expected.partition(":")
    kind = kind.rpartition(".")[2]
    if not colon:
        return kind in [base.__name__ for base in type(error).__mro__]
    return type(error).__name__ == kind and checked(message.strip(), text.partition(":")[2].strip() + "\n", options)


def approximately(got, expected):
    """Whether a number, rounded or cut off, shows the expected digits."""
    from decimal import Decimal

    if isinstance(got, bool) or not isinstance(got, (int, float)):
        return False
    digit, value = 10.0 ** Decimal(expected).as_tuple().exponent, float(expected)
    more = (got - value) * (-1 if value < 0 or expected.startswith("-") else 1)
    return -0.5 * digit - 1e-12 <= more < digit - 1e-12


def run_pairs(source, pairs, deadline):
    """The program as a script: what it reads and what it must print."""
    import subprocess

    with open("program.py", "w", encoding="utf-8", errors="surrogatepass") as file:
        file.write(source)
    for given, expected in pairs:
        left = deadline - time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-I", "program.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            out, err = process.communicate(given.encode("utf-8", "surrogatepass"), timeout=max(0.01, left))
        except subprocess.TimeoutExpired:
            process.kill()
            raise CandidateEndError("no end within the time limit for the input %s" % short(given)) from None
        printed = out.decode("utf-8", "replace")
        if process.returncode != 0:
            last = err.decode("utf-8", "replace").strip().splitlines()[-1:] or [""]
            raise CheckError(
                "input %s" % short(given), expected, printed[-TEXT:], "status %d: %s" % (process.returncode, last[0])
            )
        if [line.rstrip() for line in printed.strip().splitlines()] != [
            line.rstrip() for line in expected.strip().splitlines()
        ]:
            raise CheckError("input %s" % short(given), expected, printed)


def describe(error, candidate):
    """What goes into the report, each part bounded."""
    if isinstance(error, CheckError):
        detail = dict(error.detail)
    else:
        detail = {"error": getattr(error, "nad_text", None) or "%s: %s" % (type(error).__name__, error)}
        if isinstance(error, (CandidateEndError, TestsError)):
            detail["error"] = str(error)
        elif isinstance(error, ModuleNotFoundError) and not hasattr(error, "nad_text"):
            # raised here and not by the program
            detail["unsupported"] = True
            detail["error"] = "the tests import %r, which is not in the sandbox; the program's names are in %s" % (
                error.name,
                "the modules candidate, solution and main",
            )
        elif isinstance(error, SystemExit):
            detail["error"] = "the program tried to end itself: " + detail["error"]
    import traceback

    own = [e for e in traceback.extract_tb(error.__traceback__) if e.filename == "tests.py"]
    if own:
        detail["test_line"] = own[-1].lineno
    detail["where"] = getattr(error, "nad_where", "")
    if candidate is not None:
        detail["output"] = candidate.output.decode("utf-8", "replace")[-TEXT:]
    return {key: value[:TEXT] if isinstance(value, str) else value for key, value in detail.items()}


class Judgement:
    """The checks on one candidate, in order, until one fails."""

    def __init__(self, payload, candidate):
        self.payload, self.candidate = payload, candidate
        self.deadline = time.monotonic() + payload["seconds"]
        candidate.load(payload["source"], self.deadline)
        self.scope, self.results = {}, []

    def check(self, name, action):
        """Run one check; whether it passed."""
        started = time.monotonic()
        try:
            action()
            # what a test caught, or the candidate swallowed, still counts
            if self.candidate.failure is not None:
                raise self.candidate.failure
        except BaseException as error:
            if isinstance(error, CandidateEndError):
                time.sleep(0.01)  # for the last of its output
            detail = describe(error, self.candidate)
            if isinstance(error, TestsError):
                detail["unsupported"] = True
            self.results.append({"check": name, "passed": False, "seconds": time.monotonic() - started, **detail})
            return False
        self.results.append({"check": name, "passed": True, "seconds": time.monotonic() - started})
        return True

    def expect(self, phase):
        """Wait until the candidate compiled, or loaded."""
        answer = self.candidate.receive()
        if "error" in answer:
            raise self.candidate.raised(answer["error"])
        if answer.get("phase") != phase:
            raise self.candidate.ended("the program wrote into its answers")
        for name, value in (answer.get("names") or {}).items():
            self.scope[name] = decode(value, self.candidate.resolve)

    def run(self):
        """All checks that were asked for."""
        payload, checks = self.payload, self.payload["checks"]
        good = self.check("syntax", lambda: self.expect("syntax"))
        if good and any(check not in ("syntax", "pairs") for check in checks):
            good = self.check("imports", lambda: self.expect("load"))
        if good and "examples" in checks:
            good = self.check("examples", lambda: run_examples(self.candidate, self.scope, payload["examples"]))
        if good and "tests" in checks:
            good = self.check(
                "tests", lambda: run_tests(self.candidate, self.scope, payload["tests"], payload["modules"])
            )
        self.candidate.stop()
        self.candidate.failure = None
        if good and "pairs" in checks:
            self.check("pairs", lambda: run_pairs(payload["source"], payload["pairs"], self.deadline))
        return self.results


def main():
    """Make the candidate's process, and only then read the payload; judge, write the nonce and the results."""
    candidate = Candidate()
    payload = json.loads(sys.stdin.buffer.read())
    os.close(0)
    os.open("/dev/null", os.O_RDONLY)
    if os.path.exists("main.py"):
        os.unlink("main.py")
    try:
        # no other process of this user may read this one's memory or open its descriptors
        ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)
    except (OSError, AttributeError, ImportError):
        pass
    # what tests and programs print is not wanted here: the results alone go to the real standard output
    sys.stdout = open(os.devnull, "w", encoding="utf-8", errors="replace")
    line = payload["nonce"] + json.dumps(Judgement(payload, candidate).run()) + "\n"
    written = b"\n" + line.encode()
    while written:
        written = written[os.write(1, written) :]
    os._exit(0)  # nothing is left to be torn down in order
