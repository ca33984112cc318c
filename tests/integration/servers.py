"""`nad serve` as a process with the default model."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx

KEY = "a-key"
MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "Name a fruit."}], "max_tokens": 24, "seed": 1}
LONG = {**CHAT, "max_tokens": 2000, "messages": [{"role": "user", "content": "Count to 1000."}]}


class Server:
    """A server as a process. As a context manager it ends with the block, whatever became of it there."""

    def __init__(self, *options, key=KEY):
        command = [Path(sys.executable).with_name("nad"), "serve", "--n", "3", "--port", "0", *options]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "NAD_API_KEY": key or "", "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        self.log = []
        self.url = None
        try:
            for line in self.process.stderr:
                self.log.append(line)
                if found := re.search(r"running on (http://[\d.:]+)", line):
                    self.url = found[1]
                    break
            assert self.url, "".join(self.log)
        except BaseException:
            self.process.kill()
            self.process.communicate()
            raise
        # a pipe that nobody reads stops the process when it is full
        self.reader = threading.Thread(target=lambda: self.log.extend(self.process.stderr))
        self.reader.start()
        self.http = httpx.Client(base_url=self.url, headers={"authorization": f"Bearer {KEY}"}, timeout=120)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def metric(self, name):
        found = re.search(rf"^{re.escape(name)} ([\d.]+)$", self.http.get("/metrics").text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    def health(self):
        return self.http.get("/health").json()

    def stop(self):
        """Ask the process to end, and return its exit status; the second call returns the same."""
        try:
            self.process.send_signal(signal.SIGTERM)
            self.process.send_signal(signal.SIGCONT)  # a stopped process takes no SIGTERM
            return self.process.wait(60)
        finally:
            self.process.kill()  # does nothing where it has ended
            self.process.wait()
            self.reader.join()
            self.process.stderr.close()
            self.http.close()


def wait_until(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
