"""Settings of vLLM that change how the model is run: recording is right under them, or refused by name."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nad_agents import ConfigurationError, NADConfig, UnsupportedModelError, testing
from nad_agents.engine.vllm.model_runners import check_runner
from tests.vllm.conftest import CONFIG, OPTIONS, SAMPLING, SHAPE, make_decoder
from tests.vllm.forced_pass import assert_recorded_as_forced, assert_two_workers_record_as_forced, prompt_ids

SILENT = NADConfig(**CONFIG, selector="mean_logprob", record=False)


@pytest.mark.timeout(600)
def test_sets_are_those_of_a_forced_forward_pass_compiled_and_on_two_workers(folder, hf):
    assert_two_workers_record_as_forced(hf, folder, enforce_eager=False)


@pytest.mark.timeout(600)
def test_so_are_they_when_candidates_are_preempted(folder, hf):
    # 12 blocks of 32 tokens: six candidates begin in 7 of them, and would end in 19 or more
    few = {"max_model_len": 256, "block_size": 32, "num_gpu_blocks_override": 12}
    decoder = make_decoder(folder, engine="vllm", engine_options={**OPTIONS, **few}, max_rows=8)
    prompt = "a prompt of more than one block"
    try:
        assert 32 < len(prompt_ids(hf, prompt)) < 64
        long = {"n": 6, "max_new_tokens": 90, "generation_options": {"min_new_tokens": 90}}
        group = decoder.sample(prompt, sampling=SAMPLING.model_copy(update=long))
        assert [len(rollout) for rollout in group.rollouts] == [90] * 6
        assert_recorded_as_forced(hf, prompt_ids(hf, prompt), group)
    finally:
        decoder.close()


def test_prompts_in_parts_of_which_vllm_dies_on_a_cpu_are_refused_before_it_starts(folder):
    with pytest.raises(ConfigurationError, match="ends by an error when a seeded request's prompt is read in parts"):
        make_decoder(folder, engine="vllm", engine_options={**OPTIONS, "enable_chunked_prefill": True})


@pytest.mark.timeout(600)
def test_with_speculative_decoding_answers_are_right_and_recording_is_refused_by_name(folder, hf):
    drafts = {"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_max": 3}
    decoder = make_decoder(folder, engine="vllm", engine_options={**OPTIONS, "speculative_config": drafts}, max_rows=8)
    try:
        with pytest.raises(UnsupportedModelError, match="not recorded with vLLM's speculative_config"):
            decoder.decode("hello")
        with pytest.raises(ConfigurationError, match=r"'entropy' reads a signal of each token: .* speculative_config"):
            decoder.decode("hello", config=NADConfig(**CONFIG, selector="entropy", record=False))
        greedy = SAMPLING.model_copy(update={"n": 1, "temperature": 0.0})
        mine, theirs = (one.sample("hello " * 20, sampling=greedy, config=SILENT).rollouts[0] for one in (decoder, hf))
        assert mine.token_ids.tolist() == theirs.token_ids.tolist()
        np.testing.assert_allclose(mine.logprobs, theirs.logprobs, atol=1e-4)
        assert np.isnan(mine.entropies).all()
    finally:
        decoder.close()


@pytest.mark.timeout(600)
def test_a_mixture_of_experts_with_a_shared_expert_is_refused_by_name(tmp_path):
    experts = {"moe_intermediate_size": 32, "shared_expert_intermediate_size": 32, "num_experts": 4}
    made = testing.tiny_model("qwen2_moe", max_position_embeddings=512, num_experts_per_tok=2, **SHAPE, **experts)
    made.model.save_pretrained(tmp_path)
    made.tokenizer.save_pretrained(tmp_path)
    decoder = make_decoder(tmp_path, engine="vllm", engine_options=OPTIONS, max_rows=8)
    try:
        with pytest.raises(UnsupportedModelError, match=r"layer 0 of .* is a mixture of experts"):
            decoder.decode("hello")
        # the signals of its tokens do not depend on the neurons
        selection = decoder.decode("hello", config=NADConfig(**CONFIG, selector="entropy", record=False))
        assert sorted(selection.ranking) == [0, 1, 2, 3]
        assert len({candidate.score for candidate in selection.candidates}) == 4
    finally:
        decoder.close()


def test_the_runner_that_vllm_takes_on_gpus_has_what_the_recorder_relies_on():
    from vllm.v1.worker.gpu.model_runner import GPUModelRunner

    runner = object.__new__(GPUModelRunner)
    assert not hasattr(runner, "_prepare_inputs")
    check_runner(runner)
    assert {"execute_model", "load_model", "get_model"} <= set(dir(runner))


@pytest.mark.timeout(300)
def test_that_runner_maps_rows_to_tokens_also_with_parts_of_prompts_and_preemption():
    script = Path(__file__).with_name("v2_inputs.py")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr[-4000:]
    # a: the end of its prompt, then the first row twice; c: again the last row of its prompt, then what followed
    assert json.loads(done.stdout.splitlines()[-1]) == {"a": [2, 0, 0], "c": [4, 0, 2]}
