"""Running the harness's programs, compiled once for each sandbox: parsing them takes longer than starting Python."""

from __future__ import annotations

import base64
import binascii
import threading
import zlib
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from nad_sandbox.base import ExecResult, HarnessSandbox, Sandbox

__all__ = ["run_harness"]

# what is compiled is the harness alone, in a run in which no candidate takes part
_COMPILE = """import base64, marshal, sys, zlib
code = compile(sys.stdin.buffer.read(), "harness.py", "exec", dont_inherit=True)
print(base64.b64encode(zlib.compress(marshal.dumps(code))).decode())
"""
# for a sandbox of the user's own: what the bootstrap program of ours does
_MAIN = """import builtins, ctypes, os
if os.path.exists("main.py"): os.unlink("main.py")
try: ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)
except (OSError, AttributeError): pass
scope = {{"__builtins__": dict(vars(builtins)), "__name__": "harness"}}
exec(compile({source!r}, "harness.py", "exec", dont_inherit=True), scope)
scope["main"]()
"""


@dataclass
class _Compiled:
    """What is known of each program in one sandbox: None after the first run, and while the second compiles it."""

    code: dict[str, bytes | None] = field(default_factory=dict)
    compiling: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def is_due(self, source: str) -> bool:
        """Whether the caller is to compile the program now."""
        with self.lock:
            if source not in self.code:
                self.code[source] = None  # a program that runs once is not worth the compiling
                return False
            due = self.code[source] is None and source not in self.compiling
            self.compiling.add(source)
            return due


_compiled: WeakKeyDictionary[Sandbox, _Compiled] = WeakKeyDictionary()
_lock = threading.Lock()


def run_harness(sandbox: Sandbox, source: str, payload: bytes, *, timeout: float) -> ExecResult:
    """Run a program of the harness.

    In a sandbox of this package the bootstrap program becomes it, which saves starting Python once more; from the
    second run on it is sent compiled. Any other sandbox runs it like a program of the user's.

    Args:
        sandbox: where it runs.
        source: its source.
        payload: what it reads.
        timeout: wall-clock seconds.

    Raises:
        SandboxUnavailableError: there is nowhere to run it.
        SandboxFailureError: the sandbox broke.
    """
    framed = len(payload).to_bytes(8, "big") + payload
    if not isinstance(sandbox, HarnessSandbox):
        return sandbox.run_python(_MAIN.format(source=source), stdin=framed, timeout=timeout)
    with _lock:
        compiled = _compiled.setdefault(sandbox, _Compiled())
    if compiled.is_due(source):
        result = sandbox.run_python(_COMPILE, stdin=source, timeout=timeout)
        if result.ok and not result.output_truncated:
            compiled.code[source] = _unpacked(result.stdout)
    code = compiled.code[source]
    harness = source.encode() if code is None else code
    return sandbox.run_harness(harness, framed, compiled=code is not None, timeout=timeout)


def _unpacked(printed: str) -> bytes | None:
    try:
        return zlib.decompress(base64.b64decode(printed))
    except (binascii.Error, zlib.error):
        return None
