"""A bubblewrap sandbox of a process without privileges: no control group, a user namespace."""

import json
import subprocess
import sys
from dataclasses import asdict

from nad_sandbox import ExecResult, SandboxUnavailableError

# everything is imported before the rights are given up, for what is root's cannot be read after that
SERVER = """
import json, os, sys
from nad_sandbox import Limits, SandboxError
from nad_sandbox import BubblewrapSandbox, CodeVerifier
from nad_sandbox.backends.launcher import bootstrap_source
from nad_sandbox.harness import judge_source
from nad_sandbox.harness.launch import run_harness
from nad_sandbox.image.pytest_files import find_pytest
bootstrap_source(), judge_source(), find_pytest()
if os.geteuid() == 0:
    os.chdir("/")
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
sandbox = BubblewrapSandbox(limits=Limits(**json.loads(sys.argv[1])), python="/usr/bin/python3")
try:
    print(json.dumps({"enforced": sandbox.enforced}), flush=True)
except SandboxError as error:
    print(json.dumps({"error": str(error)}), flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    if "tests" in asked:
        result = CodeVerifier(sandbox, tests=asked["tests"], checks=("syntax", "imports")).verify(asked["code"])
    elif "cmd" in asked:
        result = sandbox.exec(asked["cmd"], timeout=asked["timeout"])
    else:
        result = sandbox.run_python(asked["code"], timeout=asked["timeout"])
    print(json.dumps(result.to_dict()), flush=True)
"""


class UserSandbox:
    """Runs programs through a `BubblewrapSandbox` in a process of its own, which is not root."""

    def __init__(self, limits):
        self.limits = limits
        self._server = subprocess.Popen(
            [sys.executable, "-c", SERVER, json.dumps(asdict(limits))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.told = json.loads(self._server.stdout.readline())

    @property
    def enforced(self):
        return self.told["enforced"]

    def check_available(self):
        if "error" in self.told:
            raise SandboxUnavailableError(self.told["error"])

    def run_python(self, code, timeout=None):
        return self._ask({"code": code, "timeout": timeout})

    def exec(self, cmd, timeout=None):
        return self._ask({"cmd": cmd, "timeout": timeout})

    def verify(self, code, tests):
        """A report as data."""
        return self._told({"code": code, "tests": tests})

    def _ask(self, what):
        return ExecResult(**self._told(what))

    def _told(self, what):
        self._server.stdin.write(json.dumps(what) + "\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())

    def close(self):
        self._server.stdin.close()
        try:
            self._server.wait(30)
        finally:
            self._server.kill()
            self._server.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
