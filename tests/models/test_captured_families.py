"""Which families' steps are captured, and that those are exact and wait for nothing."""

import pytest
import torch
from transformers import AutoModelForCausalLM, DynamicCache

from nad_agents.engine.hf.captured.static_cache import StaticBuffers
from nad_agents.engine.hf.captured.support import capture_obstacle
from nad_agents.engine.hf.prefix.attention import shared_prefix_attention
from nad_agents.engine.hf.prefix.blocks import Prefix
from nad_agents.engine.hf.prefix.cache import SharedPrefixCache
from nad_agents.exceptions import GenerationError
from nad_agents.neurons.recording_config import RecordingConfig
from nad_agents.types import SamplingConfig
from tests.captured_steps import assert_same, engine
from tests.generations import ids, run, seeded
from tests.model_families import FAMILIES, family_model

LEFT_ALONE = {
    "the cache is not shared": {"Falcon", "Bloom", "GLM-5", "DeepSeek V4", "Llama 4"},
    "recurrent states": {
        "LFM2",
        "LFM3",
        "Qwen 3.5",
        "Falcon-H1",
        "Bamba",
        "Zamba2",
        "Nemotron-H, Nemotron 3",
        "Jamba",
        "Granite 4 hybrid",
        "Qwen3-Next",
        "Qwen 3.5 MoE",
        "LFM2 MoE",
        "Kimi-Linear",
    },
    "latent attention": {"DeepSeek V2", "DeepSeek V3, R1; Kimi K2", "Mistral Small 4"},
}
"""Families whose steps are not captured."""


WAITING = {"GPT-2", "Gemma 3n"}
"""Families whose code makes the host wait in every step, or moves a number to the device."""


@pytest.mark.parametrize("family", [family.name for family in FAMILIES])
def test_a_family_is_captured_exactly_or_not_at_all(family, recorded):
    model = family_model(family)
    assert bool(capture_obstacle(model)) == any(family in names for names in LEFT_ALONE.values())
    if capture_obstacle(model):
        return
    # long enough for a window of 16 positions to move
    sampling = SamplingConfig(n=3, max_new_tokens=14, temperature=1.0, top_k=0, top_p=1.0)
    recording = RecordingConfig(top_k_neurons=12, top_k_neurons_per_layer=8)
    requests = [seeded(ids("def add(a, b):"), sampling, 3, recording), seeded(ids("yes"), sampling, 4, recording)]
    if family in WAITING:
        with pytest.raises(GenerationError, match=r"the host wait|between the host|not permitted when"):
            run(engine(model), *requests)
        return
    own, captured = run(engine(model, compile=False), *requests), run(engine(model), *requests)
    assert sum(graphs.replayed for graphs in recorded) >= 14
    for one, other in zip(own, captured, strict=True):
        assert_same(one, other)


@pytest.mark.parametrize("family", ["Llama 2, 3", "Gemma 2", "gpt-oss", "Gemma 4"])
def test_a_step_runs_on_a_device_that_shows_the_host_nothing(family):
    """On the meta device no number can be read, and a tensor on another device is an error."""
    config = family_model(family).config
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()
    device = torch.device("meta")
    cache = SharedPrefixCache(DynamicCache(config=config))
    cache.add_group(Prefix(0, {}, {}), 2)
    with torch.inference_mode():
        with shared_prefix_attention(model, cache):
            token = torch.zeros(2, 1, dtype=torch.long, device=device)
            model(input_ids=token, position_ids=cache.positions(1, device), past_key_values=cache)
        cache.advance(1)
        buffers = StaticBuffers(device)
        buffers.allocate(cache, 2, 256)
        static = buffers.step_cache(cache, 2, 256)
        with shared_prefix_attention(model, static):
            static.begin_step()
            output = model(
                input_ids=buffers.tokens[:, None],
                position_ids=buffers.positions[:, None],
                past_key_values=static,
                logits_to_keep=1,
            )
    assert output.logits.shape == (2, 1, config.vocab_size)
    assert output.logits.device == device
