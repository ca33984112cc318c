"""The candidate's process as the judge sees it: starting it, asking it, and what became of it."""

from __future__ import annotations

import builtins
import json
import os
import select
import sys
import threading
import time
import warnings

from nad_sandbox.harness.asserting import CheckError, TestsError
from nad_sandbox.harness.codec import decode, encode
from nad_sandbox.harness.remote import Remote, awaiting
from nad_sandbox.harness.runner import be_candidate

TEXT = 600
ANSWER_BYTES = 64 << 20
BUILTINS = {id(value): name for name, value in vars(builtins).items() if callable(value)}


class CandidateEndError(BaseException):
    """The candidate's process ended or broke the protocol; no `except Exception` of the tests hides it."""


class Candidate:
    """The process with the model's code, and calls into it; made before this one knows any secret."""

    def __init__(self):
        self.deadline = 0.0
        ours_in, theirs_out = os.pipe()
        theirs_in, ours_out = os.pipe()
        printed, prints = os.pipe()
        self.process = os.fork()
        if not self.process:
            try:
                become_candidate(theirs_in, theirs_out, prints)
            finally:
                os._exit(1)
        for descriptor in (theirs_in, theirs_out, prints):
            os.close(descriptor)
        self.requests, self.answers, self.pending = ours_out, ours_in, b""
        self.printed, self.output, self.status = printed, b"", None
        # sticky: what the tests caught and must not get away with
        self.failure = None
        self.objects, self.callbacks, self.exceptions = {}, [], {}
        self.asked = 0
        self.reader = threading.Thread(target=self.keep_output, daemon=True)

    def load(self, source, deadline):
        """Let it compile and run the program; the answers come until the deadline."""
        self.deadline = deadline
        self.reader.start()
        self.send({"source": source})

    def keep_output(self):
        """Drain what the program prints and keep its end."""
        while True:
            part = os.read(self.printed, 65536)
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

    def ended(self, message):
        """The error for a candidate that cannot be asked any more."""
        self.failure = self.failure or CandidateEndError(message)
        return self.failure

    def receive(self):
        """Read one answer."""
        if self.failure is not None:
            raise self.failure
        parts, size = [self.pending], len(self.pending)
        while b"\n" not in parts[-1]:
            left = self.deadline - time.monotonic()
            if left <= 0 or not select.select([self.answers], [], [], left)[0]:
                raise self.ended("no answer within the time limit")
            part = os.read(self.answers, 1 << 20)
            if not part:
                raise self.ended(self.how_it_ended())
            parts.append(part)
            size += len(part)
            if size > ANSWER_BYTES:
                raise self.ended("the program answers with more than %d MiB" % (ANSWER_BYTES >> 20))
        line, self.pending = b"".join(parts).split(b"\n", 1)
        try:
            answer = json.loads(line)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise self.ended("the program wrote into its answers")
        return answer

    def how_it_ended(self):
        """In words, for the report."""
        import signal

        status = self.wait(1)
        if status is None:
            return "the program closed its answers"
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            why = ": by the memory limit, unless it sent that itself" if number == signal.SIGKILL else ""
            return "the program was ended by signal %d (%s)%s" % (number, signal.strsignal(number), why)
        return "the program ended its process with status %d" % os.WEXITSTATUS(status)

    def wait(self, seconds):
        """How it ended, as waitpid tells; None when it lives on."""
        end = time.monotonic() + seconds
        while self.status is None:
            ended, status = os.waitpid(self.process, os.WNOHANG)
            if ended:
                self.status = status
            elif time.monotonic() >= end:
                break
            else:
                time.sleep(0.002)
        return self.status

    def request(self, message):
        """Ask and get the answer; what the candidate raised is raised here."""
        self.asked += 1
        self.send(message)
        while True:
            answer = self.receive()
            self.pass_on(answer)
            if "callback" not in answer:
                break
            self.send(self.call_back(answer))
        if "error" in answer:
            raise self.raised(answer["error"])
        return answer

    def pass_on(self, answer):
        """What the program printed and warned of, as if it had run here."""
        sys.stdout.write(str(answer.get("printed", "")))
        if sys.stderr is not sys.__stderr__:
            sys.stderr.write(str(answer.get("complained", "")))
        for kinds, text in answer.get("warned") or []:
            kind = builtin_base(kinds)
            kind = kind if issubclass(kind, Warning) else UserWarning
            warnings.warn_explicit(str(text), kind, "candidate.py", 1)

    def value(self, message):
        """Ask and get the answer's value."""
        return decode(self.request(message)["value"], self.resolve)

    def operate(self, operator, *operands):
        """An operator or built-in function on objects of the candidate."""
        return self.value({"do": "operate", "operator": operator, "args": encode(list(operands), self.refer)})

    def call_back(self, answer):
        """Call a function of the tests that the candidate was given."""
        function = self.callbacks[answer["callback"]]
        args, kwargs = decode(answer["args"], self.resolve)
        try:
            return {"do": "return", "value": encode(function(*args, **kwargs), self.refer)}
        except CheckError as error:
            self.failure = self.failure or error  # the candidate might swallow it
            raise
        except Exception as error:
            return {"do": "return", "error": self.describe(error)}

    def describe(self, error):
        """An exception as it is sent."""
        kinds = [base.__name__ for base in type(error).__mro__]
        try:
            args = encode(tuple(error.args), self.refer)
        except TestsError:
            args = encode((str(error),), self.refer)
        return {"kinds": kinds, "args": args}

    def refer(self, value):
        """How the judge's objects are sent: stand-ins as what they stand for, functions to be called back."""
        if type(value) is Remote:
            return {"id": value._nad_content["id"]}
        if id(value) in self.exceptions:
            return {"id": self.exceptions[id(value)]}
        if id(value) in BUILTINS:
            return {"builtin": BUILTINS[id(value)]}
        if isinstance(value, BaseException):
            return {"raised": self.describe(value)}
        if callable(value):
            for number, known in enumerate(self.callbacks):
                if known is value:
                    break
            else:
                number = len(self.callbacks)
                self.callbacks.append(value)
            return {"callback": number, "name": str(getattr(value, "__name__", "callback"))}
        raise TestsError(
            "the tests pass an object of %r to the program; only plain data, functions and the program's own "
            "objects can be passed" % type(value)
        )

    def resolve(self, content):
        """The stand-in for an object of the candidate."""
        if "callback" in content:
            return self.callbacks[content["callback"]]
        number = content["id"]
        if content.get("type") == "coroutine":
            return awaiting(self, number)
        if number not in self.objects:
            made = self.exception_class(content) if content.get("raises") else Remote(self, content)
            self.objects[number] = made
        return self.objects[number]

    def exception_class(self, content):
        """A class to catch what the candidate raises by a class of its own."""
        made = type(str(content["raises"][0]), (builtin_base(content["raises"]),), {})
        self.exceptions[id(made)] = content["id"]
        return made

    def raised(self, error):
        """An exception like the one that the candidate raised."""
        kinds = [str(kind) for kind in error.get("kinds", [])] or ["Exception"]
        where = "; ".join(map(str, error.get("where", [])))[:TEXT]
        text = "%s: %s" % (kinds[0], error.get("text", ""))
        base = builtin_base(kinds)
        own = [c for c in self.objects.values() if isinstance(c, type) and c.__name__ == kinds[0]]
        kind = own[0] if own else base if base.__name__ == kinds[0] else type(kinds[0], (base,), {})
        try:
            made = kind(*decode(error["args"], self.resolve))
        except Exception:
            made = type(kinds[0], (Exception,), {})(error.get("text", ""))
        made.nad_where, made.nad_text = where, text
        return made

    def stop(self):
        """End it."""
        if self.status is None:
            os.kill(self.process, 9)
            self.status = os.waitpid(self.process, 0)[1]
        os.close(self.requests)
        os.close(self.answers)
        self.reader.join(1)


def become_candidate(requests, answers, prints):
    """In the forked process: keep three pipes and nothing else, and serve."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(prints, 1)
    os.dup2(prints, 2)
    # out of the way first: they may be where they are to go
    kept = [os.dup(os.dup(os.dup(descriptor))) for descriptor in (requests, answers)]
    kept = [os.dup2(descriptor, place) for descriptor, place in zip(kept, (200, 201))]
    os.closerange(3, 200)
    os.closerange(202, 256)
    # a program is not looked for in the working folder
    sys.path[:] = [path for path in sys.path if path != os.getcwd()]
    be_candidate(*kept)


def builtin_base(kinds):
    """The nearest built-in exception in a line of base classes."""
    for kind in kinds:
        found = getattr(builtins, str(kind), None)
        if isinstance(found, type) and issubclass(found, BaseException):
            return found
    return Exception
