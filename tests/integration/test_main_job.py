"""The main job on the real default model."""

import json
import os
import subprocess
import sys

import numpy as np
import torch

from nad_agents import Finished, NADConfig, SamplingConfig, TextDelta
from nad_agents.engine.base import GenerationRequest
from nad_agents.engine.hf.engine import HFEngine
from nad_agents.neurons.architectures import find_feed_forwards, find_unembedding
from nad_agents.neurons.recording_config import RecordingConfig
from nad_agents.prompt import encode_prompt

TASK = "Write a Python function is_prime(n) that returns True if n is a prime number and False otherwise."


def test_candidates_of_a_coding_prompt_are_ranked_with_evidence(default_decoder):
    sampling = SamplingConfig(n=4, max_new_tokens=64, seed=1)
    selection = default_decoder.decode(TASK, sampling=sampling)
    assert "is_prime" in selection.text
    assert len({candidate.text for candidate in selection.candidates}) > 1
    assert all(500 < c.activated_neurons < 30 * 1536 for c in selection.candidates)
    matrix = np.array(selection.similarity_matrix)
    assert (matrix[~np.eye(4, dtype=bool)] < 1).all()
    assert (matrix > 0.1).all()
    again = default_decoder.decode(TASK, sampling=sampling)
    how_it_was_read = {"timings": True, "usage": {"cached_tokens"}}
    assert again.model_dump(exclude=how_it_was_read) == selection.model_dump(exclude=how_it_was_read)
    assert again.usage.cached_tokens > 0


def test_greedy_is_the_librarys_generate(default_model):
    engine = HFEngine(default_model.model, default_model.tokenizer)
    prompt = encode_prompt(default_model.tokenizer, TASK)
    generation = engine.start(GenerationRequest(prompt, SamplingConfig(n=1, temperature=0, max_new_tokens=48, seed=0)))
    while generation.live:
        engine.step(32)
    with torch.no_grad():
        expected = default_model.model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=48)
    assert generation.token_ids(0) == expected[0, len(prompt) :].tolist()


def test_an_answer_ends_at_the_models_own_end_token(default_decoder):
    selection = default_decoder.decode(
        "What is the capital of France? Answer with one word.",
        sampling=SamplingConfig(n=1, temperature=0, max_new_tokens=64),
        config=NADConfig(selector="first"),
    )
    assert selection.best.finish_reason == "stop"
    assert "Paris" in selection.text
    assert "<|im_end|>" not in selection.text


def test_the_neurons_recorded_for_attribution_are_the_formulas(default_model):
    """The recorded best neurons are those that one forward over the sequence ranks best, in float32."""
    engine = HFEngine(default_model.model, default_model.tokenizer)
    prompt = encode_prompt(default_model.tokenizer, "Say hello.")
    generation = engine.start(
        GenerationRequest(prompt, SamplingConfig(n=2, max_new_tokens=12, seed=3), RecordingConfig("attribution"))
    )
    while generation.live:
        engine.step(32)
    blocks, unembedding = find_feed_forwards(default_model.model), find_unembedding(default_model.model)
    for rollout in generation.group().rollouts:
        ids = torch.tensor([prompt + rollout.token_ids.tolist()])
        inputs = {}
        hooks = [
            b.dense.down.register_forward_pre_hook(
                lambda _m, x, layer=b.layer, into=inputs: into.__setitem__(layer, x[0][0])
            )
            for b in blocks
        ]
        with torch.no_grad():
            default_model.model(ids)
        for hook in hooks:
            hook.remove()
        for t in range(len(rollout)):
            at = len(prompt) - 1 + t
            direction = unembedding.weight[ids[0, at + 1]]
            scores = torch.stack([inputs[b.layer][at] * (direction @ b.dense.down_weight()) for b in blocks])
            order = scores.topk(64, dim=-1)
            pool = order.values.flatten().topk(500)
            expected = (order.indices + torch.arange(len(blocks))[:, None] * blocks[0].d_ff).flatten()[pool.indices]
            different = set(expected.tolist()) ^ set(rollout.neurons[t].tolist())
            edge = float(pool.values[-1])
            assert all(abs(float(scores.flatten()[i]) - edge) < 1e-4 for i in different)


def test_early_stopping_streams_the_winner_and_saves_tokens(default_decoder):
    config = NADConfig(pruning="first_chunk")
    sampling = SamplingConfig(n=6, max_new_tokens=72, seed=2)
    events = list(default_decoder.stream(TASK, sampling=sampling, config=config))
    selection = events[-1].selection
    assert isinstance(events[-1], Finished)
    assert "".join(e.text for e in events if isinstance(e, TextDelta)) == selection.text
    assert selection.usage.saved_tokens > 0.5 * selection.usage.generated_tokens


def test_the_command_line_answers_from_the_default_model():
    command = [sys.executable, "-m", "nad_agents", "code", TASK, "-n", "3", "--max-new-tokens", "48", "--seed", "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--json"], capture_output=True, text=True, check=False, timeout=250, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["candidates"]) == 3
