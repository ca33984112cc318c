"""The candidate's process as the judge sees it: starting it, calling it, and objects that stay in it."""

from __future__ import annotations

import builtins
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time

from nad_sandbox.harness.codec import decode, encode

RUNNER = globals().get("RUNNER", "")
TEXT = 600


class CandidateEndError(Exception):
    """The candidate's process ended, or its code tried to end it."""


class Candidate:
    """The process with the model's code, and calls into it."""

    def __init__(self, source, deadline):
        self.deadline = deadline
        ours_in, theirs_out = os.pipe()
        theirs_in, ours_out = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-c", RUNNER, str(theirs_in), str(theirs_out)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(theirs_in, theirs_out),
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self.requests, self.answers, self.pending = ours_out, ours_in, b""
        self.output = b""
        self.reader = threading.Thread(target=self.keep_output, daemon=True)
        self.reader.start()
        self.send({"source": source})

    def keep_output(self):
        """Drain what the program prints and keep its end."""
        while True:
            part = os.read(self.process.stdout.fileno(), 65536)
            if not part:
                return
            self.output = (self.output + part)[-4 * TEXT :]

    def send(self, message):
        """Write one request; a candidate that is gone is met when its answer is read."""
        data = (json.dumps(message) + "\n").encode()
        try:
            while data:
                data = data[os.write(self.requests, data) :]
        except BrokenPipeError:
            pass

    def receive(self):
        """Read one answer."""
        while b"\n" not in self.pending:
            left = self.deadline - time.monotonic()
            if left <= 0 or not select.select([self.answers], [], [], left)[0]:
                raise CandidateEndError("no answer within the time limit")
            part = os.read(self.answers, 1 << 20)
            if not part:
                raise CandidateEndError(self.how_it_ended())
            self.pending += part
        line, self.pending = self.pending.split(b"\n", 1)
        answer = json.loads(line)
        if not isinstance(answer, dict):
            raise CandidateEndError("the program wrote into its answers")
        return answer

    def how_it_ended(self):
        """In words, for the report."""
        try:
            code = self.process.wait(1)
        except subprocess.TimeoutExpired:
            return "the program closed its answers"
        if code < 0:
            return "the program was ended by signal %d (%s)" % (-code, signal.strsignal(-code))
        return "the program ended its process with status %d" % code

    def request(self, message):
        """Ask and get the value; errors of the candidate are raised as errors here."""
        self.send(message)
        answer = self.receive()
        if "error" in answer:
            raise candidate_error(answer["error"], self)
        return answer

    def stop(self):
        """End it."""
        self.process.kill()
        self.process.wait()
        os.close(self.requests)
        os.close(self.answers)
        self.reader.join(1)


def candidate_error(error, candidate):
    """An exception like the one that the candidate raised."""
    kinds = [str(kind) for kind in error.get("kinds", [])]
    where = "; ".join(error.get("where", []))[:TEXT]
    text = "%s: %s" % (kinds[0] if kinds else "error", error.get("text", ""))
    for kind in kinds:
        base = getattr(builtins, kind, None)
        if isinstance(base, type) and issubclass(base, Exception):
            known = candidate.exceptions.get(kinds[0]) if hasattr(candidate, "exceptions") else None
            made = known or (base if base.__name__ == kinds[0] else type(kinds[0], (base,), {}))
            args = (
                decode(error.get("args"), lambda reference: Remote(candidate, reference)) if error.get("args") else ()
            )
            try:
                raised = made(*args)
            except Exception:
                raised = type(kinds[0], (Exception,), {})(error.get("text", ""))
            raised.nad_where = where
            raised.nad_text = text
            return raised
    return CandidateEndError("the program tried to end itself: " + text + (" (" + where + ")" if where else ""))


class Remote:
    """An object in the candidate's process. Comparing it with plain data is False: only data equals data."""

    def __init__(self, candidate, reference, name=None):
        self.__dict__.update(_candidate=candidate, _reference=reference, _name=name)

    def _target(self):
        return {"name": self._name} if self._name is not None else {"object": self._reference}

    def __call__(self, *args, **kwargs):
        message = {"do": "call", "args": encode((list(args), kwargs), refer_back), **self._target()}
        answer = self._candidate.request(message)
        resolve = lambda reference: Remote(self._candidate, reference)  # noqa: E731
        if "args" in answer:
            for old, new in zip((list(args), kwargs), decode(answer["args"], resolve)):
                update(old, new)
        return decode(answer["value"], resolve)

    def __getattr__(self, attribute):
        answer = self._candidate.request({"do": "get", "attribute": attribute, **self._target()})
        return decode(answer["value"], lambda reference: Remote(self._candidate, reference))

    def __eq__(self, other):
        if not isinstance(other, Remote):
            return NotImplemented
        return self._reference == other._reference or self.__getattr__("__eq__")(other) is True

    def __ne__(self, other):
        return not self == other

    def __hash__(self):
        return hash(str(self._target()))

    def __repr__(self):
        return "<%s of the candidate>" % (self._name or self._reference.get("type", "object"))


def _forward(name):
    def method(self, *args):
        return self.__getattr__(name)(*args)

    return method


for _name in (
    "lt le gt ge len iter next getitem setitem delitem contains add sub mul truediv floordiv mod pow neg abs "
    "radd rsub rmul and or xor enter exit str int float"
).split():
    setattr(Remote, "__%s__" % _name, _forward("__%s__" % _name))


def refer_back(value):
    """How the judge's own objects are sent: only those that came from the candidate can be."""
    if isinstance(value, Remote) and value._name is None:
        return value._reference
    if isinstance(value, Remote):
        return value._candidate.request({"do": "value", "name": value._name})["value"]["object"]
    raise TypeError("a test passes %r to the program; only plain data and the program's own objects can be" % (value,))


def update(old, new):
    """Make changes that the candidate made to its copies of mutable arguments."""
    if isinstance(old, list) and isinstance(new, list):
        for i in range(min(len(old), len(new))):
            if isinstance(old[i], (list, dict, set)) and type(old[i]) is type(new[i]):
                update(old[i], new[i])
                new[i] = old[i]
        old[:] = new
    elif isinstance(old, dict) and isinstance(new, dict):
        for key in new:
            if key in old and isinstance(old[key], (list, dict, set)) and type(old[key]) is type(new[key]):
                update(old[key], new[key])
                new[key] = old[key]
        old.clear()
        old.update(new)
    elif isinstance(old, set) and isinstance(new, set):
        old.clear()
        old.update(new)
