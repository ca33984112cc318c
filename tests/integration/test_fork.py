"""Forked workers: a model that the parent loaded works in the child or says why not; nothing waits forever.

A child inherits whatever the threads of its parent are doing, so every case is the program of a process of its own,
which is forked from one that has imported torch and has no threads.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")

ROOT = Path(__file__).parents[2]
SECONDS = 120

DRIVER = """
import json, multiprocessing, os, signal, sys, threading, traceback, warnings
import torch
from nad_agents import GenerationError, NADConfig, NeuronAgreementDecoder, SamplingConfig
from nad_agents.testing import tiny_model

warnings.simplefilter("ignore", DeprecationWarning)  # a fork of a process with threads

def in_child(call):
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    signal.alarm(SECONDS)  # whoever waits forever is ended
    try:
        call()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)

class Hold:
    # a logits processor that stops the engine's thread in the middle of a step
    def __init__(self):
        self.reached, self.go = threading.Event(), threading.Event()

    def __call__(self, ids, scores):
        self.reached.set()
        self.go.wait()
        return scores

def case(program):
    torch.set_num_threads(2)
    sampling = SamplingConfig(
        n=3, max_new_tokens=20, temperature=1.0, seed=1, generation_options={"min_new_tokens": 20}
    )
    # wide enough for torch to compute on several threads
    decoder = NeuronAgreementDecoder(tiny_model(hidden_size=128, intermediate_size=512), sampling=sampling)
    exec(program, {**globals(), "decoder": decoder, "sampling": sampling})

programs = json.load(sys.stdin)
print(json.dumps({name: in_child(lambda: case(program)) for name, program in programs.items()}))
"""

CASES = {
    "a child answers like its parent, whether the parent has answered or not": """
def text(prompt):
    return decoder.decode(prompt).text

context = multiprocessing.get_context("fork")
texts = context.SimpleQueue()
assert in_child(lambda: texts.put(text("hello"))) == 0
expected = text("hello")
assert in_child(lambda: texts.put(text("hello"))) == 0
worker = context.Process(target=lambda: texts.put(text("hello")))
worker.start()
worker.join()
assert [texts.get() for _ in range(3)] == [expected] * 3
""",
    "a child forked in the middle of a step answers, and the parent's request goes on": """
hold = Hold()
running = decoder.submit(["first"], logits_processors=lambda: [hold])[0]
assert hold.reached.wait(60)

def child():
    try:
        running.result()
    except GenerationError as error:
        assert "submit it again in this process" in str(error), error
    else:
        raise AssertionError("the parent's request has no result here")
    assert decoder.decode("hello").candidates[0].tokens == 20
    assert decoder.engine.rows == 0
    other = NeuronAgreementDecoder(decoder.loaded, sampling=sampling)
    assert other.decode("hello").text == decoder.decode("hello").text

assert in_child(child) == 0
hold.go.set()
assert running.result().text == decoder.decode("first").text
""",
    "a child that cannot use the device says so": """
def child():
    # stands for a model on a GPU: no forked process can use one
    decoder.engine._device = torch.device("cuda:0")
    for _ in range(2):
        try:
            decoder.decode("hello")
        except GenerationError as error:
            assert "was put on cuda:0 before this process was forked" in str(error), error
            assert "gunicorn without --preload" in str(error), error
        else:
            raise AssertionError("no error")

decoder.decode("hello")
assert in_child(child) == 0
""",
    "locks that were held at the fork are free in the child": """
from nad_agents.fork import ForkSafeLock
from nad_agents.models import load_model

lock, held, done = ForkSafeLock(), threading.Event(), threading.Event()

def hold():
    from nad_agents.models import loading
    with lock, loading._LOADING:
        held.set()
        done.wait()

thread = threading.Thread(target=hold)
thread.start()
assert held.wait(60)

def child():
    with lock:
        pass
    try:
        load_model("/nowhere/at/all")
    except Exception as error:
        assert type(error).__name__ == "ModelLoadError"

assert in_child(child) == 0
done.set()
thread.join()
""",
}


@pytest.fixture(scope="module")
def exit_codes():
    paths = [str(ROOT), str(ROOT / "integrations"), str(ROOT / "sandbox")]
    done = subprocess.run(
        [sys.executable, "-c", DRIVER.replace("SECONDS", str(SECONDS))],
        input=json.dumps(CASES),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "TOKENIZERS_PARALLELISM": "false"},
        capture_output=True,
        text=True,
        timeout=SECONDS * (len(CASES) + 1),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


@pytest.mark.parametrize("case", CASES)
def test_in_forked_processes(exit_codes, case):
    codes, errors = exit_codes
    assert codes[case] == 0, errors
