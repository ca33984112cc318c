r"""Run untrusted programs in isolation, and check the code that a model wrote.

>>> from nad_sandbox import DockerSandbox
>>> with DockerSandbox() as sandbox:  # doctest: +SKIP
...     sandbox.run_python("print(1 + 1)").stdout
'2\n'

Importing this package needs no Docker: what needs it is imported at its first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from nad_sandbox.base import (
    ExecResult,
    Limits,
    Sandbox,
    SandboxError,
    SandboxFailureError,
    SandboxUnavailableError,
)

if TYPE_CHECKING:
    from nad_sandbox.auto import AutoSandbox, auto_sandbox
    from nad_sandbox.behaviour import BehaviourRunner
    from nad_sandbox.bubblewrap import BubblewrapSandbox
    from nad_sandbox.docker import DockerSandbox
    from nad_sandbox.extraction import extract_code
    from nad_sandbox.local import UnsafeLocalSandbox
    from nad_sandbox.reaper import reap_leftovers
    from nad_sandbox.report import CheckResult, Report
    from nad_sandbox.verifier import CodeVerifier

__all__ = [
    "AutoSandbox",
    "BehaviourRunner",
    "BubblewrapSandbox",
    "CheckResult",
    "CodeVerifier",
    "DockerSandbox",
    "ExecResult",
    "Limits",
    "Report",
    "Sandbox",
    "SandboxError",
    "SandboxFailureError",
    "SandboxUnavailableError",
    "UnsafeLocalSandbox",
    "auto_sandbox",
    "extract_code",
    "reap_leftovers",
]

_LAZY = {
    "AutoSandbox": "nad_sandbox.auto",
    "BehaviourRunner": "nad_sandbox.behaviour",
    "BubblewrapSandbox": "nad_sandbox.bubblewrap",
    "CheckResult": "nad_sandbox.report",
    "CodeVerifier": "nad_sandbox.verifier",
    "DockerSandbox": "nad_sandbox.docker",
    "Report": "nad_sandbox.report",
    "UnsafeLocalSandbox": "nad_sandbox.local",
    "auto_sandbox": "nad_sandbox.auto",
    "extract_code": "nad_sandbox.extraction",
    "reap_leftovers": "nad_sandbox.reaper",
}


def __getattr__(name: str) -> Any:
    """Import a backend or a check at its first use."""
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted(__all__)
