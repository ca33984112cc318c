"""The judge: holds tests, expected values and the nonce, and never runs a line of the candidate.

Reads one JSON object on standard input, writes one line on standard output: the nonce and the results as JSON. Only
this process can write there, and only it knows the nonce.
"""

from __future__ import annotations

import ast
import builtins
import ctypes
import json
import math
import os
import subprocess
import sys
import time
import traceback
import types
import unittest

from nad_sandbox.harness.asserting import (
    AssertRewriter,
    CheckError,
    check_compare,
    check_true,
    pytest_stand_in,
    short,
)
from nad_sandbox.harness.codec import decode
from nad_sandbox.harness.remote import TEXT, Candidate, CandidateEndError, Remote, candidate_error


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
    """Each (call, expected): evaluated here, with functions that are called there."""
    for example in examples:
        call, expected = example["call"], example["expected"]
        if not set(example["names"]) <= set(scope):
            missing = sorted(set(example["names"]) - set(scope))
            raise CheckError(call, expected, "", "%s is not defined by the program" % ", ".join(missing))
        before = len(candidate.output)
        got = eval(compile(call, "<example>", "eval"), dict(scope))
        try:
            value = ast.literal_eval(expected)
        except (ValueError, SyntaxError):
            if short(got) != expected and str(got) != expected:
                raise CheckError(call, expected, short(got)) from None
            continue
        printed = candidate.output[before:].decode("utf-8", "replace").strip() if got is None else None
        if not similar(got, value) and printed != expected.strip():
            raise CheckError(call, expected, short(got))


def run_tests(scope, tests, names):
    """Assert statements, then unittest classes, then pytest functions."""
    module = types.ModuleType("tests")
    module.__dict__.update(scope)
    module.__dict__.update(__nad_check_compare__=check_compare, __nad_check_true__=check_true)
    for name in names:
        alias = types.ModuleType(name)
        alias.__dict__.update(scope)
        sys.modules[name] = alias
    sys.modules["tests"] = module
    sys.modules.setdefault("pytest", pytest_stand_in())
    tree = ast.fix_missing_locations(AssertRewriter().visit(ast.parse(tests, "tests.py")))
    exec(compile(tree, "tests.py", "exec"), module.__dict__)
    for name, value in list(module.__dict__.items()):
        if isinstance(value, type) and issubclass(value, unittest.TestCase):
            result = unittest.TestResult()
            unittest.defaultTestLoader.loadTestsFromTestCase(value).run(result)
            for test, text in result.failures + result.errors:
                raise CheckError(test.id(), message=text.strip().splitlines()[-1])
        elif name.startswith("test") and isinstance(value, types.FunctionType):
            for args in getattr(value, "nad_parameters", [()]):
                value(*args)
        elif name.startswith("Test") and isinstance(value, type):
            for method in [m for m in dir(value) if m.startswith("test")]:
                getattr(value(), method)()


def run_pairs(source, pairs, deadline):
    """The program as a script: what it reads and what it must print."""
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
    """What goes into the report."""
    if isinstance(error, CheckError):
        detail = dict(error.detail)
    else:
        detail = {"error": getattr(error, "nad_text", None) or "%s: %s" % (type(error).__name__, error)}
        if isinstance(error, CandidateEndError):
            detail["error"] = str(error)
        where = getattr(error, "nad_where", "")
        own = [e for e in traceback.extract_tb(error.__traceback__) if e.filename in ("tests.py", "<example>")]
        if own and own[-1].filename == "tests.py":
            detail["test_line"] = own[-1].lineno
        if where:
            detail["where"] = where
    if candidate is not None:
        detail["output"] = candidate.output.decode("utf-8", "replace")[-TEXT:]
    return detail


def main():
    """Run the checks in order and stop at the first that fails."""
    payload = json.loads(sys.stdin.buffer.read())
    os.close(0)
    os.open("/dev/null", os.O_RDONLY)
    for name in ("main.py",):
        if os.path.exists(name):
            os.unlink(name)
    try:
        # no other process of this user may read this one's memory or open its descriptors
        ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)
    except (OSError, AttributeError, ImportError):
        pass
    deadline = time.monotonic() + payload["seconds"]
    results, candidate, scope = [], None, {}

    def run(name, action):
        started = time.monotonic()
        try:
            action()
        except Exception as error:
            if isinstance(error, CandidateEndError) and candidate is not None:
                time.sleep(0.01)
            detail = describe(error, candidate)
            results.append({"check": name, "passed": False, "seconds": time.monotonic() - started, **detail})
            return False
        results.append({"check": name, "passed": True, "seconds": time.monotonic() - started})
        return True

    def expect(phase):
        def action():
            answer = candidate.receive()
            if "error" in answer:
                raise candidate_error(answer["error"], candidate)
            if answer.get("phase") != phase:
                raise CandidateEndError("the program wrote into its answers")
            names = answer.get("names") or {}
            candidate.exceptions = {}
            for name, kinds in names.items():
                scope[name] = Remote(candidate, None, name)
                if kinds:
                    bases = [getattr(builtins, kind, None) for kind in kinds]
                    base = next(b for b in bases if isinstance(b, type) and issubclass(b, BaseException))
                    base = base if issubclass(base, Exception) else Exception
                    candidate.exceptions[name] = scope[name] = type(name, (base,), {})
            for name in [n for n, kinds in names.items() if not kinds]:
                value = candidate.request({"do": "value", "name": name})["value"]
                if not (isinstance(value, dict) and "object" in value):
                    scope[name] = decode(value, lambda reference: Remote(candidate, reference))

        return action

    checks = payload["checks"]
    candidate = Candidate(payload["source"], deadline)
    candidate.exceptions = {}
    good = run("syntax", expect("syntax"))
    if good and any(check != "syntax" and check != "pairs" for check in checks):
        good = run("imports", expect("load"))
    if good and "examples" in checks:
        good = run("examples", lambda: run_examples(candidate, scope, payload["examples"]))
    if good and "tests" in checks:
        good = run("tests", lambda: run_tests(scope, payload["tests"], payload["modules"]))
    candidate.stop()
    if good and "pairs" in checks:
        run("pairs", lambda: run_pairs(payload["source"], payload["pairs"], deadline))
    line = payload["nonce"] + json.dumps(results) + "\n"
    os.write(1, b"\n" + line.encode())
