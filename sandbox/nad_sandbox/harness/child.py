"""The supervisor's side of a forked process that runs the program: requests, answers, output and exit status."""

from __future__ import annotations

import json
import os
import select
import time

TEXT = 600
LONGEST_ANSWER = 64 << 20
DESCRIPTORS = 4096


class ProgramEndedError(BaseException):
    """Raised when the program's process ended, ran out of time or broke the protocol.

    It is no `Exception`, so that no `except Exception` of the tests hides it.
    """


class Child:
    """A process that is forked at once, before this one has read anything that the child must not know.

    Args:
        serve: Function that the child calls with the descriptors of its requests and answers.
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
        """Write one request; if the process has ended, reading its answer reports that."""
        data = (json.dumps(message) + "\n").encode("ascii")
        try:
            while data:
                data = data[os.write(self.requests, data) :]
        except BrokenPipeError:
            pass

    def receive_line(self):
        """Return one line of the answers, and keep the end of the program's output meanwhile.

        Raises:
            ProgramEndedError: The process sends no line in time, ends, or sends one that is too long.
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
        """Return one answer, which must be a JSON object after the token that was given with the request.

        Raises:
            ProgramEndedError: No answer comes, or something that is no such answer.
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
        """Read some of the program's output; return False when there will be no more."""
        part = os.read(self.printed, 65536)
        self.output = (self.output + part)[-4 * TEXT :]
        return bool(part)

    def drain_output(self):
        """Read what is left in the output pipe of a process that has ended."""
        for _ in range(64):
            if not select.select([self.printed], [], [], 0)[0] or not self.keep_output():
                return

    def how_it_ended(self):
        """Describe for the report how the process ended."""
        if not self.wait(1.0):
            return "the program closed the answers of its process"
        if os.WIFSIGNALED(self.status):
            number = os.WTERMSIG(self.status)
            why = ": by the memory limit, unless it sent that itself" if number == 9 else ""
            return "the program was ended by signal %d%s" % (number, why)
        return "the program ended its process with status %d" % os.WEXITSTATUS(self.status)

    def wait(self, seconds):
        """Wait for at most some seconds, and return whether the process has ended."""
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
        """Kill the process, read the rest of its output and close its pipes."""
        if self.status is None:
            os.kill(self.pid, 9)
            self.status = os.waitpid(self.pid, 0)[1]
        self.drain_output()
        for descriptor in (self.requests, self.answers, self.printed):
            os.close(descriptor)


def keep_only(requests, answers, prints):
    """Give the new process an empty standard input and a pipe as its output, and close all other descriptors."""
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
    """Read the supervisor's own input: a length in eight bytes, then JSON of that length."""
    size = int.from_bytes(read_exactly(8), "big")
    payload = json.loads(read_exactly(size))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return payload


def read_exactly(size):
    """Read exactly `size` bytes from standard input; end the process when there are fewer."""
    parts = []
    while size:
        part = os.read(0, min(size, 1 << 18))
        if not part:
            os._exit(1)
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def write_verdict(nonce, verdict):
    """Write the nonce and the verdict to the sandbox's standard output, and end the process."""
    data = ("\n" + nonce + json.dumps(verdict) + "\n").encode("ascii")
    while data:
        data = data[os.write(1, data) :]
    os._exit(0)
