"""A process that ends while candidates are written ends like any other."""

import subprocess
import sys
from pathlib import Path

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
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, check=False, cwd=root, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
