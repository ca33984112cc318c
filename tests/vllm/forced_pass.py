"""What a teacher-forced forward pass of transformers says of an answer."""

import numpy as np
import torch

from nad_agents import NADConfig
from nad_agents.engine.hf.signals import token_signals
from nad_agents.neurons.architectures import find_feed_forwards
from nad_agents.neurons.top_k import LayerScores, top_neurons
from tests.vllm.conftest import CONFIG, OPTIONS, make_decoder


def forced(hf, prompt, tokens, layers=slice(None)):
    """The neurons, signals and log-probabilities of an answer in one forward pass over prompt and answer."""
    model = hf.loaded.model
    blocks = find_feed_forwards(model)
    seen = {}
    handles = [
        block.dense.down.register_forward_pre_hook(
            lambda _, inputs, i=block.layer: seen.__setitem__(i, inputs[0][0].clone())
        )
        for block in blocks
    ]
    with torch.inference_mode():
        logits = model(torch.tensor([[*prompt, *tokens]])).logits[0]
    for handle in handles:
        handle.remove()
    at = slice(len(prompt) - 1, len(prompt) - 1 + len(tokens))
    wanted = [seen[i][at].contiguous() for i in range(len(blocks))[layers]]
    neurons = top_neurons(
        map(LayerScores, wanted), CONFIG["top_k_neurons_per_layer"], CONFIG["top_k_neurons"], 96, magnitudes=True
    )
    logprobs = logits[at].log_softmax(-1).gather(-1, torch.tensor(tokens)[:, None])[:, 0]
    return neurons.numpy(), token_signals(logits[at]), logprobs.numpy()


def prompt_ids(hf, text):
    return hf.loaded.tokenizer.apply_chat_template([{"role": "user", "content": text}], add_generation_prompt=True)[
        "input_ids"
    ]


def assert_recorded_as_forced(hf, prompt, group, layers=slice(None)):
    for rollout in group.rollouts:
        neurons, signals, logprobs = forced(hf, prompt, rollout.token_ids.tolist(), layers)
        assert [set(row) for row in rollout.neurons.tolist()] == [set(row) for row in neurons.tolist()]
        np.testing.assert_allclose(rollout.entropies, signals.entropy, atol=1e-4)
        np.testing.assert_allclose(rollout.self_certainties, signals.self_certainty, atol=1e-4)
        np.testing.assert_allclose(rollout.confidences, signals.confidence, atol=1e-4)
        np.testing.assert_allclose(rollout.logprobs, logprobs, atol=1e-4)


def assert_two_workers_record_as_forced(hf, folder, *, enforce_eager=True, **options):
    """Two workers that share each layer record the neurons of the forced pass, and candidates are dropped on both."""
    engine_options = {**OPTIONS, "enforce_eager": enforce_eager, "tensor_parallel_size": 2}
    decoder = make_decoder(folder, engine="vllm", engine_options=engine_options, max_rows=8, **options)
    try:
        assert_recorded_as_forced(hf, prompt_ids(hf, "hello"), decoder.sample("hello"))
        config = NADConfig(pruning="first_chunk", **CONFIG)
        assert decoder.decode("hello", config=config).usage.generated_tokens < 4 * 24
    finally:
        decoder.close()
