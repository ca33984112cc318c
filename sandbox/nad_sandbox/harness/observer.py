"""The observer: it runs a program twice on the same inputs, each input under its own time limit.

It reads one JSON object from standard input and writes one line to standard output: the nonce, and for every input its
outcome and whether both runs agree. The nonce follows the JSON object and is read after the last run, since the
program's processes are forked from this one. Where the outcome may depend on the hash seed or on addresses, the second
run is a new Python, which has others.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import select
import sys
import time

from nad_sandbox.harness.child import DESCRIPTORS, read_exactly, write_verdict

OBSERVED_PROGRAM = globals().get("OBSERVED_PROGRAM", "")
MOST_TIMEOUTS = 3
LONGEST_ANSWER = 1 << 24
ADDRESS = "address"
NONCE_SIZE = 32
SCRIPT_FILE = "program.py"
POLL_SECONDS = 0.0005

# results of these names and methods may depend on the hash seed or on addresses
PROCESS_NAMES = frozenset(
    "set frozenset hash id dir vars globals locals eval exec compile getattr __import__ __builtins__".split()
)
PROCESS_METHODS = frozenset("__hash__ __dict__ __dir__ __reduce__ __subclasses__".split())
VIEWS = frozenset(("keys", "items"))  # their differences and intersections are sets
# results of these modules do not
PLAIN_MODULES = frozenset(
    "__future__ abc bisect collections copy dataclasses datetime decimal enum fractions functools heapq itertools math "
    "operator random re statistics string sys time typing".split()
)


def start(call, streams, kept=(), fresh=False):
    """Start a process that makes a call of the module `observed_program`, and return its number.

    Args:
        call: Source of the call.
        streams: Descriptors that become the process's standard input, output and error.
        kept: Further descriptors that it keeps.
        fresh: Whether the process is a new Python.
    """
    pid = os.fork()
    if pid:
        return pid
    try:
        for target, source in enumerate(streams):
            os.dup2(source, target)
        first = 3
        for descriptor in sorted(kept):
            os.closerange(first, descriptor)
            os.set_inheritable(descriptor, True)
            first = descriptor + 1
        os.closerange(first, DESCRIPTORS)
        if fresh:
            os.execv(sys.executable, [sys.executable, "-I", "-c", OBSERVED_PROGRAM + "\n" + call])
        exec(call, globals())
    finally:
        os._exit(1)


def wait_for(pid, deadline):
    """Wait until a process ends, and return its wait status; None if it has not ended by the deadline."""
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return status
        if time.monotonic() >= deadline:
            return None
        time.sleep(POLL_SECONDS)


class Caller:
    """Starts the process that makes the calls, and talks to it.

    Args:
        source: The program.
        seconds: Time limit for loading it.
        fresh: Whether the process is a new Python.
    """

    def __init__(self, source, seconds, fresh):
        self.answers, theirs_out = os.pipe()
        theirs_in, self.requests = os.pipe()
        nothing = os.open(os.devnull, os.O_RDWR)
        call = "serve_calls(%d, %d)" % (theirs_in, theirs_out)
        self.pid = start(call, (nothing, nothing, nothing), (theirs_in, theirs_out), fresh)
        for descriptor in (theirs_in, theirs_out, nothing):
            os.close(descriptor)
        self.pending = b""
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
        parts, size = [self.pending], 0  # a long answer is searched and copied once
        while b"\n" not in parts[-1]:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.answers], [], [], left)[0]:
                return {"ended": "timeout"}
            parts.append(os.read(self.answers, 1 << 20))
            size += len(parts[-1])
            if not parts[-1] or size > LONGEST_ANSWER:
                return {"ended": "size" if parts[-1] else "exit"}
        line, self.pending = b"".join(parts).split(b"\n", 1)
        try:
            answer = json.loads(line)
        except (ValueError, RecursionError, MemoryError):
            answer = None
        return answer if isinstance(answer, dict) else {"ended": "exit"}

    def stop(self):
        """Kill the process and close its pipes."""
        os.kill(self.pid, 9)
        os.waitpid(self.pid, 0)
        os.close(self.requests)
        os.close(self.answers)


def call_all(payload, deadline, fresh):
    """Return the outcome of every call, made in a process that is replaced when a call ends or blocks it."""
    outcomes, caller, timeouts = [], None, 0
    for call in payload["inputs"]:
        if timeouts >= MOST_TIMEOUTS or time.monotonic() > deadline:
            outcomes.append({"ended": "timeout"})
            continue
        if caller is None:
            source = "%s\n\n\n%s" % (payload["source"], payload["driver"])
            caller = Caller(source, payload["load"], fresh)
        if caller.loaded:
            outcomes.append(bounded(caller.loaded, payload["room"]))
            timeouts += caller.loaded.get("ended") == "timeout"
            continue
        told = bounded(caller.ask(call, payload["each"]), payload["room"])
        outcomes.append(told)
        if "ended" in told:
            timeouts += told["ended"] == "timeout"
            caller.stop()
            caller = None
    if caller is not None:
        caller.stop()
    return outcomes


def run_all(payload, deadline, fresh):
    """Run the program as a script on each standard input, and return what it prints or how it fails."""
    outcomes, timeouts = [], 0
    with open(SCRIPT_FILE, "w", encoding="utf-8", errors="surrogatepass") as file:
        file.write(payload["source"])
    for given in payload["inputs"]:
        if timeouts >= MOST_TIMEOUTS or time.monotonic() > deadline:
            outcomes.append({"ended": "timeout"})
            continue
        told = bounded(run_once(given, time.monotonic() + payload["each"], fresh), payload["room"])
        timeouts += told.get("ended") == "timeout"
        outcomes.append(told)
    return outcomes


def run_once(given, deadline, fresh):
    """Run the script on one standard input."""
    import tempfile

    # files, since a pipe that a process of the program's keeps open has no end
    with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        stdin.write(given.encode("utf-8", "surrogatepass"))
        stdin.seek(0)
        streams = [file.fileno() for file in (stdin, stdout, stderr)]
        pid = start("run_script(%r)" % SCRIPT_FILE, streams, fresh=fresh)
        status = wait_for(pid, deadline)
        if status is None:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
            return {"ended": "timeout"}
        out, err = (read_whole(file) for file in (stdout, stderr))
    told = {"printed": out} if out else {}
    code = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    if not code:
        told["returned"] = None
    elif code == 1:
        last = (err.strip().splitlines() or [""])[-1]
        told["raised"] = last if last.startswith("ModuleNotFoundError: ") else last.split(":")[0]
    else:
        told["raised"] = "status %d" % code
    return told


def read_whole(file):
    """Return the content of a file as text."""
    file.seek(0)
    return file.read().decode("utf-8", "replace")


def depends_on_process(source, inputs, outcomes):
    """Return whether an outcome may depend on the hash seed or on addresses; in doubt it does.

    Args:
        source: The program.
        inputs: The inputs.
        outcomes: The outcomes of the first run.
    """
    if any(ADDRESS in told or " at 0x" in json.dumps(told) for told in outcomes) or any(
        "{" in given or "set(" in given for given in inputs
    ):
        return True
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except BaseException:
        return False  # the source does not compile in any process
    views = operations = False
    for node in nodes:
        if isinstance(node, (ast.Set, ast.SetComp)):
            return True
        if isinstance(node, ast.Name) and node.id in PROCESS_NAMES:
            return True
        if isinstance(node, ast.Attribute):
            if node.attr in PROCESS_METHODS:
                return True
            views = views or node.attr in VIEWS
        if isinstance(node, (ast.BinOp, ast.AugAssign)):
            operations = operations or isinstance(node.op, (ast.BitAnd, ast.BitOr, ast.BitXor, ast.Sub))
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        if any(name.split(".")[0] not in PLAIN_MODULES for name in names):
            return True
    return views and operations


def main():
    """Observe the program twice and write the outcomes."""
    payload = json.loads(read_exactly(int.from_bytes(read_exactly(8), "big")))
    deadline = time.monotonic() + payload["seconds"]
    run = call_all if payload["kind"] == "call" else run_all
    first = run(payload, deadline - payload["seconds"] / 2, False)
    fresh = depends_on_process(payload["source"], payload["inputs"], first)
    second = run(payload, deadline, fresh)
    write_verdict(read_exactly(NONCE_SIZE).decode("ascii"), [compared(*pair) for pair in zip(first, second)])


def compared(first, second):
    """Return the outcome of two runs of a program on one input, marked with whether they agree.

    Of two lists of the same length that differ, it also says which items agree.

    A run that a limit ended has no outcome to compare.
    """
    for outcome in (first, second):
        outcome.pop(ADDRESS, None)
        if outcome.get("ended") in ("timeout", "size"):
            return dict(outcome, stable=True)
    told = dict(first, stable=first == second)
    items, others = items_of(first.get("returned")), items_of(second.get("returned"))
    if not told["stable"] and len(items) == len(others):
        told["stable_items"] = [one == other for one, other in zip(items, others)]
    return told


def items_of(form):
    """Return the items of a list's canonical form; none for any other data, which a program may have forged."""
    is_list = isinstance(form, list) and len(form) == 2 and form[0] == "list" and isinstance(form[1], list)
    return form[1] if is_list else []


def bounded(outcome, room):
    """Return an outcome with a digest in place of each long part, since the sandbox's output and memory are capped.

    `ADDRESS` is a key of the result if a part that was replaced may show an address.
    """
    kept = {}
    for part, value in outcome.items():
        text = json.dumps(value)
        kept[part] = value
        if len(text) > room:
            kept[part] = ["long", len(text), hashlib.sha256(text.encode()).hexdigest()]
            if " at 0x" in text:
                kept[ADDRESS] = True
    return kept
