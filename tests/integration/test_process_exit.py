"""A process that ends while candidates are written, or is interrupted at its start, ends like any other."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import time
from nad_agents import LoadedModel, NeuronAgreementDecoder, SamplingConfig
from pathlib import Path
from tests.tiny_models import byte_tokenizer, make_model

model = make_model("llama", max_position_embeddings=8192)
decoder = NeuronAgreementDecoder(LoadedModel(model, byte_tokenizer(), "tiny", "folder", Path()))
decoder.submit(["hello"], sampling=SamplingConfig(n=4, max_new_tokens=8000))
while not decoder.engine.rows:
    time.sleep(0.01)
"""


def test_exit_in_the_middle_of_a_generation():
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture
def _interruptible():
    """New processes take SIGINT, which one in the background of a shell ignores, and all that it starts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interruptible")
@pytest.mark.parametrize("importing", ["numpy", "pydantic", "rich", "torch"])
def test_an_interruption_while_packages_are_imported_has_a_line_and_no_traceback(importing, tmp_path):
    command = [sys.executable, "-X", "importtime", "-m", "nad_agents", "ask", "hi", "--model", str(tmp_path / "none")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        started = re.compile(rf"import time:.*\| +{importing}\.")
        assert any(started.match(line) for line in process.stderr), f"{importing} was not imported"
        process.send_signal(signal.SIGINT)
        said = [line for line in process.stderr if not line.startswith("import time:")]
        assert (process.wait(60), said, process.stdout.read()) == (130, ["error: interrupted\n"], "")
