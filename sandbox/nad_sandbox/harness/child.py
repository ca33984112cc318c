"""A forked process that runs the program, as the supervisor sees it: requests, answers, output and its end."""

from __future__ import annotations

import json
import os
import select
import time

TEXT = 600
LONGEST_ANSWER = 64 << 20
DESCRIPTORS = 4096


class ProgramEndedError(BaseException):
    """The program's process ended, ran out of time or broke the protocol; no `except Exception` of tests hides it."""


class Child:
    """A process made now, before this one has read anything that is not for it.

    Args:
        serve: called there with the descriptors of requests and answers.
    """

    def __init__(self, serve):
        requests, self.requests = os.pipe()
        self.answers, answers = os.pipe()
        self.printed, prints = os.pipe()
        self.status = None
        self.pending, self.output = b"", b""
        self.deadline = 0.0
        self.pid = os.fork()
        if not self.pid:
            try:
                keep_only(requests, answers, prints)
                serve(requests, answers)
            finally:
                os._exit(1)
        for descriptor in (requests, answers, prints):
            os.close(descriptor)

    def send(self, message):
        """Write one request; a process that is gone is met when its answer is read."""
        data = (json.dumps(message) + "\n").encode("ascii")
        try:
            while data:
                data = data[os.write(self.requests, data) :]
        except BrokenPipeError:
            pass

    def receive_line(self):
        """One line of the answers; the end of what is printed meanwhile is kept.

        Raises:
            ProgramEndedError: none comes.
        """
        parts, size = [self.pending], len(self.pending)
        sources = [self.answers, self.printed]
        while b"\n" not in parts[-1]:
            left = self.deadline - time.monotonic()
            ready = select.select(sources, [], [], left)[0] if left > 0 else []
            if not ready:
                raise ProgramEndedError("no answer within the time limit")
            if self.printed in ready and not self.keep_output():
                sources.remove(self.printed)
            if self.answers not in ready:
                continue
            part = os.read(self.answers, 1 << 20)
            if not part:
                raise ProgramEndedError(self.how_it_ended())
            parts.append(part)
            size += len(part)
            if size > LONGEST_ANSWER:
                raise ProgramEndedError("the program answers with more than %d MiB" % (LONGEST_ANSWER >> 20))
        line, self.pending = b"".join(parts).split(b"\n", 1)
        return line

    def receive(self, token=b""):
        """One answer, which must be an object behind the token that was given with the request.

        Raises:
            ProgramEndedError: none comes, or something else.
        """
        line = self.receive_line()
        try:
            answer = json.loads(line[len(token) :]) if line.startswith(token) else None
        except (ValueError, RecursionError, MemoryError):
            answer = None
        if type(answer) is not dict:
            raise ProgramEndedError("the program wrote into the answers of its process")
        return answer

    def keep_output(self):
        """Take what was printed; False when nothing more will come."""
        part = os.read(self.printed, 65536)
        self.output = (self.output + part)[-4 * TEXT :]
        return bool(part)

    def drain_output(self):
        """Take what is left in the pipe of a process that has ended."""
        for _ in range(64):
            if not select.select([self.printed], [], [], 0)[0] or not self.keep_output():
                return

    def how_it_ended(self):
        """In words, for the report."""
        if not self.wait(1.0):
            return "the program closed the answers of its process"
        if os.WIFSIGNALED(self.status):
            number = os.WTERMSIG(self.status)
            why = ": by the memory limit, unless it sent that itself" if number == 9 else ""
            return "the program was ended by signal %d%s" % (number, why)
        return "the program ended its process with status %d" % os.WEXITSTATUS(self.status)

    def wait(self, seconds):
        """Whether the process has ended, which is awaited for a while."""
        end = time.monotonic() + seconds
        while self.status is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            if ended:
                self.status = status
            elif time.monotonic() >= end:
                return False
            else:
                time.sleep(0.001)
        return True

    def stop(self):
        """End it."""
        if self.status is None:
            os.kill(self.pid, 9)
            self.status = os.waitpid(self.pid, 0)[1]
        self.drain_output()
        for descriptor in (self.requests, self.answers, self.printed):
            os.close(descriptor)


def keep_only(requests, answers, prints):
    """In the new process: nothing to read, output to a pipe, and no other descriptor of the old one."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(prints, 1)
    os.dup2(prints, 2)
    start = 3
    for kept in sorted((requests, answers)):
        os.closerange(start, kept)
        start = kept + 1
    os.closerange(start, DESCRIPTORS)


def read_payload():
    """The supervisor's own input: eight bytes with a length, and JSON of that length."""
    size = int.from_bytes(read_exactly(8), "big")
    payload = json.loads(read_exactly(size))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return payload


def read_exactly(size):
    """The next bytes of the standard input."""
    parts = []
    while size:
        part = os.read(0, min(size, 1 << 18))
        if not part:
            os._exit(1)
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def write_verdict(nonce, verdict):
    """Write the nonce and the verdict to the sandbox's standard output, and end."""
    data = ("\n" + nonce + json.dumps(verdict) + "\n").encode("ascii")
    while data:
        data = data[os.write(1, data) :]
    os._exit(0)
