r"""Run untrusted programs in isolation, and check the code that a model wrote.

>>> from nad_sandbox import DockerSandbox
>>> with DockerSandbox() as sandbox:  # doctest: +SKIP
...     sandbox.run_python("print(1 + 1)").stdout
'2\n'

Importing this package does not require Docker: modules that need it are imported at their first use.
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
    from nad_sandbox.backends.auto import AutoSandbox, auto_sandbox
    from nad_sandbox.backends.bubblewrap import BubblewrapSandbox
    from nad_sandbox.backends.docker import DockerSandbox
    from nad_sandbox.backends.local import UnsafeLocalSandbox
    from nad_sandbox.behaviour.assertion_runner import AssertionRunner
    from nad_sandbox.behaviour.runner import BehaviourRunner
    from nad_sandbox.checks.code_extraction import extract_code, extract_programs
    from nad_sandbox.checks.report import CheckResult, Report
    from nad_sandbox.checks.verifier import CodeVerifier
    from nad_sandbox.ownership.reaper import reap_leftovers
    from nad_sandbox.session import SandboxSession

__all__ = [
    "AssertionRunner",
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
    "SandboxSession",
    "SandboxUnavailableError",
    "UnsafeLocalSandbox",
    "auto_sandbox",
    "extract_code",
    "extract_programs",
    "reap_leftovers",
]

_LAZY = {
    "AutoSandbox": "nad_sandbox.backends.auto",
    "AssertionRunner": "nad_sandbox.behaviour.assertion_runner",
    "BehaviourRunner": "nad_sandbox.behaviour.runner",
    "BubblewrapSandbox": "nad_sandbox.backends.bubblewrap",
    "CheckResult": "nad_sandbox.checks.report",
    "CodeVerifier": "nad_sandbox.checks.verifier",
    "DockerSandbox": "nad_sandbox.backends.docker",
    "Report": "nad_sandbox.checks.report",
    "SandboxSession": "nad_sandbox.session",
    "UnsafeLocalSandbox": "nad_sandbox.backends.local",
    "auto_sandbox": "nad_sandbox.backends.auto",
    "extract_code": "nad_sandbox.checks.code_extraction",
    "extract_programs": "nad_sandbox.checks.code_extraction",
    "reap_leftovers": "nad_sandbox.ownership.reaper",
}


def __getattr__(name: str) -> Any:
    """Import a backend or a check at its first use."""
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted(__all__)
