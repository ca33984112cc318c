"""A bubblewrap sandbox of a process without privileges: no control group, a user namespace."""

import asyncio
import base64
import json
import subprocess
import sys
import threading
from dataclasses import asdict

import nad_sandbox
from nad_sandbox import ExecResult, SandboxUnavailableError
from nad_sandbox.session import SESSION_LIMITS

# everything is imported before the rights are given up, for what is root's cannot be read after that
SERVER = """
import base64, json, os, sys
from nad_sandbox import Limits, SandboxError
from nad_sandbox import BubblewrapSandbox, CodeVerifier
from nad_sandbox.harness import file_transfer_source, judge_source
from nad_sandbox.harness.launch import run_harness
from nad_sandbox.image.pytest_files import find_pytest
from nad_sandbox.isolation.bootstrap import bootstrap_source
bootstrap_source(), file_transfer_source(), judge_source(), find_pytest()
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
sessions = {}
def call(session, method, arguments):
    try:
        if method == "open":
            sessions[session] = sandbox.open_session(limits=Limits(**arguments["limits"]), background=arguments["background"])
        elif method == "upload":
            sessions[session].upload(arguments["path"], base64.b64decode(arguments["content"]))
        elif method == "download":
            return {"content": base64.b64encode(sessions[session].download(**arguments)).decode()}
        elif method == "close":
            sessions[session].close()
        else:
            return {"result": sessions[session].execute(**arguments).to_dict()}
    except OSError as error:
        return {"os": [error.errno, error.strerror, error.filename]}
    except (SandboxError, ValueError) as error:
        return {"error": [type(error).__name__, str(error)]}
    return {}
for line in sys.stdin:
    asked = json.loads(line)
    if "session" in asked:
        print(json.dumps(call(asked["session"], asked["method"], asked["arguments"])), flush=True)
        continue
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
        self._asking = threading.Lock()
        self._sessions = 0

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

    def open_session(self, *, limits=SESSION_LIMITS, background=False):
        self._sessions += 1
        return UserSession(self, self._sessions, limits, background)

    def call(self, session, method, **arguments):
        """What a method of a session returns, or raises."""
        told = self._told({"session": session, "method": method, "arguments": arguments})
        if "os" in told:
            raise OSError(*told["os"])
        if "error" in told:
            kind, text = told["error"]
            raise getattr(nad_sandbox, kind, ValueError)(text)
        return told

    def _ask(self, what):
        return ExecResult(**self._told(what))

    def _told(self, what):
        with self._asking:
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


class UserSession:
    """A session of the sandbox in the other process, with the methods of `SandboxSession`."""

    workdir = "/tmp/work"

    def __init__(self, sandbox, number, limits, background):
        self.id = f"user-session-{number}"
        self.limits = limits
        self.background = background
        self._sandbox, self._number = sandbox, number
        self._call("open", limits=asdict(limits), background=background)

    def _call(self, method, **arguments):
        return self._sandbox.call(self._number, method, **arguments)

    def execute(self, command, **options):
        return ExecResult(**self._call("execute", command=command, **options)["result"])

    def upload(self, path, content):
        self._call("upload", path=path, content=base64.b64encode(content).decode())

    def download(self, path, **options):
        return base64.b64decode(self._call("download", path=path, **options)["content"])

    async def aexecute(self, command, **options):
        return await asyncio.to_thread(self.execute, command, **options)

    async def aupload(self, path, content):
        await asyncio.to_thread(self.upload, path, content)

    async def adownload(self, path, **options):
        return await asyncio.to_thread(self.download, path, **options)

    def close(self):
        self._call("close")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
