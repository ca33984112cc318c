"""Running the harness's programs, compiled once for each sandbox: parsing them takes longer than starting Python."""

from __future__ import annotations

import base64
import binascii
import threading
import zlib
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from nad_sandbox.base import ExecResult, Sandbox

__all__ = ["run_harness"]

_CODE_FILE = "harness.code"
# what is compiled is the harness alone, in a run in which no candidate takes part
_COMPILE = """import base64, marshal, sys, zlib
code = compile(sys.stdin.buffer.read(), "harness.py", "exec", dont_inherit=True)
print(base64.b64encode(zlib.compress(marshal.dumps(code))).decode())
"""
_LOAD = f"""import marshal, os
with open({_CODE_FILE!r}, "rb") as file: code = marshal.loads(file.read())
os.unlink({_CODE_FILE!r})
exec(code)
"""


@dataclass
class _Compiled:
    """What is known of each program in one sandbox: None after the first run, and while the second compiles it."""

    code: dict[str, bytes | None] = field(default_factory=dict)
    compiling: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def is_due(self, text: str) -> bool:
        """Whether the caller is to compile the program now."""
        with self.lock:
            if text not in self.code:
                self.code[text] = None  # a program that runs once is not worth the compiling
                return False
            due = self.code[text] is None and text not in self.compiling
            self.compiling.add(text)
            return due


_compiled: WeakKeyDictionary[Sandbox, _Compiled] = WeakKeyDictionary()
_lock = threading.Lock()


def run_harness(sandbox: Sandbox, text: str, *, stdin: bytes, timeout: float) -> ExecResult:
    """Run a program of the harness; from its second run in a sandbox on, its compiled form.

    Args:
        sandbox: where it runs.
        text: its source.
        stdin: what it reads.
        timeout: wall-clock seconds.

    Raises:
        SandboxUnavailableError: there is nowhere to run it.
        SandboxFailureError: the sandbox broke.
    """
    try:
        with _lock:
            compiled = _compiled.setdefault(sandbox, _Compiled())
    except TypeError:  # a sandbox of the user's own that is no key, such as a plain dataclass
        return sandbox.run_python(text, stdin=stdin, timeout=timeout)
    if compiled.is_due(text):
        result = sandbox.run_python(_COMPILE, stdin=text.encode(), timeout=timeout)
        if result.ok and not result.output_truncated:
            compiled.code[text] = _unpacked(result.stdout)
    code = compiled.code[text]
    if code is None:
        return sandbox.run_python(text, stdin=stdin, timeout=timeout)
    return sandbox.run_python(_LOAD, stdin=stdin, files={_CODE_FILE: code}, timeout=timeout)


def _unpacked(printed: str) -> bytes | None:
    try:
        return zlib.decompress(base64.b64decode(printed))
    except (binascii.Error, zlib.error):
        return None
