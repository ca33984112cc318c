"""Memory reckoned before a request runs, against figures by hand, real caches, and limits of made-up machines."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoConfig

from nad_agents import ConfigurationError, NADConfig, NeuronAgreementDecoder, SamplingConfig
from nad_agents.engine.base import GenerationRequest
from nad_agents.engine.hf.batch_recorder import BatchRecorder
from nad_agents.engine.hf.engine import HFEngine
from nad_agents.engine.hf.memory import (
    LayerShape,
    MemoryNeed,
    ModelShape,
    check_memory,
    default_prefix_bytes,
    memory_need,
)
from nad_agents.engine.hf.prefix.layers import SUFFIX_ROOM
from nad_agents.engine.hf.request_checks import RequestMemory
from nad_agents.neurons.recorder import BUFFER_BYTES
from nad_agents.neurons.recording_config import RecordingConfig
from tests.family_checks import CACHES, assert_the_cache_is_as_large_as_computed
from tests.tiny_models import byte_tokenizer, tiny_model
from tests.unit.decoders import loaded
from tests.unit.langchain.chats import tiny_decoder

LLAMA_8B = {
    "vocab_size": 128256,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
}
WINDOWED = {"sliding_window": 512, "layer_types": ["sliding_attention"] * 20 + ["full_attention"] * 4}
KNOWN = {
    # published: 128 KiB a token for Llama 3 8B in 16 bits
    "llama 3 8b": ("llama", LLAMA_8B, torch.bfloat16, 128 * 1024 * 1000),
    "gpt-2": ("gpt2", {}, torch.float32, 12 * 2 * 768 * 4 * 1000),
    "falcon, one head of keys": ("falcon", {"num_hidden_layers": 2, "hidden_size": 128, "num_attention_heads": 4},
                                 torch.float32, 2 * 2 * 32 * 4 * 1000),
    "sliding windows": (
        "gemma3_text",
        {"num_hidden_layers": 24, "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 256, **WINDOWED},
        torch.bfloat16,
        2 * 256 * 2 * (20 * 512 + 4 * 1000),
    ),
    "no attention": ("mamba", {"num_hidden_layers": 2, "hidden_size": 64}, torch.float32, 2 * 2 * 64 * (16 + 4) * 4),
}  # fmt: skip


@pytest.mark.parametrize("name", KNOWN)
def test_known_configs(name):
    family, options, dtype, expected = KNOWN[name]
    assert ModelShape.of(AutoConfig.for_model(family, **options), dtype).cache_bytes(1, 1000) == expected


@pytest.mark.parametrize("family", CACHES)
def test_the_cache_is_the_one_that_generation_fills(family):
    assert_the_cache_is_as_large_as_computed(family)


def test_a_prompt_that_is_shared_counts_once():
    shape = ModelShape((LayerShape(32), LayerShape(32, window=50)), 2, 4, head_dim=8, vocabulary=1000, itemsize=2)
    sampling = SamplingConfig(max_new_tokens=100)
    need = memory_need(shape, sampling, 2000, 16, shares_prompt=True)
    own = 100 + SUFFIX_ROOM
    assert need.cache == 2 * 32 * (2000 + 50 + 16 * (own + 50 + SUFFIX_ROOM)) + 16 * own * 8 * 2 * 2
    assert need.cache < memory_need(shape, sampling, 2000, 16).cache / 5
    added = memory_need(shape, sampling, 3000, 16, shares_prompt=True).cache - need.cache
    assert added == 2 * 32 * 1000


def test_a_short_prompt_of_one_candidate_counts_twice():
    shape = ModelShape((LayerShape(32),), 2, 4, head_dim=8, vocabulary=1000, itemsize=2)
    sampling = SamplingConfig(max_new_tokens=100)
    short, long = (memory_need(shape, sampling, prompt, 1, shares_prompt=True) for prompt in (1024, 1025))
    assert short.cache - long.cache == 1024 * (2 * 32 + 8 * 2 * 2) - 2 * 32


def test_copies_of_a_short_prompt_count_on_an_accelerator():
    shape = ModelShape((LayerShape(32),), 2, 4, head_dim=8, vocabulary=1000, itemsize=2)
    sampling = SamplingConfig(max_new_tokens=100)
    needs = [memory_need(shape, sampling, 512, n, shares_prompt=True).cache for n in range(1, 200)]
    own = 100 + SUFFIX_ROOM
    assert needs[31] == 2 * 32 * (512 + 32 * (512 + own)) + 32 * (512 + own) * 8 * 2 * 2
    # 33 rows share the prompt, and the check that looks for the largest n needs a need that grows
    assert needs == sorted(needs)
    on_cpu = memory_need(shape, sampling, 512, 32, shares_prompt=True, on_heap=True).cache
    assert on_cpu < needs[31] / 2


@pytest.mark.parametrize(
    ("context_length", "available", "expected"),
    [
        (32_768, None, 4 * 8192 * 57_344),
        (32_768, 2**40, 4 * 8192 * 57_344),
        (None, 2**40, 4 * 8192 * 57_344),
        (2048, 2**40, 4 * 2048 * 57_344),
        (32_768, 8 * 2**30, 2**30),
        (32_768, 0, 0),
    ],
)
def test_earlier_prompts_get_room_for_four_within_an_eighth_of_the_memory(context_length, available, expected):
    shape = ModelShape((LayerShape(1024),) * 28, 4, 28, head_dim=128, vocabulary=152_064, itemsize=2)
    assert default_prefix_bytes(shape, context_length, available) == expected


def test_a_decoder_sizes_the_prefix_cache_by_its_model_unless_told():
    model = tiny_model()
    room = default_prefix_bytes(ModelShape.of(model.config, model.dtype), model.config.max_position_embeddings, None)
    by_default, told = NeuronAgreementDecoder(loaded(model)), NeuronAgreementDecoder(loaded(model), prefix_cache_mb=1)
    assert by_default.engine._batches.prefixes.max_bytes == room
    assert told.engine._batches.prefixes.max_bytes == 2**20


def test_every_part_by_hand():
    shape = ModelShape((LayerShape(32),) * 2, kv_heads=2, heads=4, head_dim=8, vocabulary=1000, itemsize=2)
    sampling = SamplingConfig(max_new_tokens=90, top_p=1)
    need = memory_need(shape, sampling, 10, 3)
    head = 3 * 100 * 8 * 2
    assert need == MemoryNeed(
        cache=2 * 2 * 2 * head + (2 + 8) * head, logits=5 * 3 * 1000 * 4, recording=0, kept=2 * 3 * (90 * 24 + 100 * 8)
    )
    # small tensors leave holes in the heap, large ones do not
    assert memory_need(shape, sampling, 10, 3, on_heap=True).cache == need.cache + 2 * 2 * 2 * head
    large = [memory_need(shape, sampling, 10, 10**6, on_heap=on_heap).cache for on_heap in (True, False)]
    assert large[0] - large[1] == 4 * 32 * 2**20
    # top_p sorts the whole vocabulary only where top_k leaves it
    assert memory_need(shape, SamplingConfig(max_new_tokens=90, top_k=0), 10, 3).logits == 8 * 3 * 1000 * 4
    assert memory_need(shape, SamplingConfig(max_new_tokens=90), 10, 3).logits == need.logits
    recording = RecordingConfig(top_k_neurons=20, top_k_neurons_per_layer=8)
    recorded = memory_need(shape, sampling, 10, 3, recording=recording, widths=[64, 64], chunk_size=32)
    # 16 neurons a token, as two layers offer no more
    assert recorded.kept - need.kept == 2 * 3 * 90 * 16 * 4
    assert recorded.recording == 32 * 3 * (2 * 64 * 2) + 32 * 3 * (64 * 14 + 16 * 24)
    many = memory_need(shape, sampling, 10, 10_000, recording=recording, widths=[4096] * 2, chunk_size=32)
    one_step = 10_000 * 2 * 4096 * 2
    assert one_step > BUFFER_BYTES["activation"]
    assert many.recording == one_step + 10_000 * (4096 * 14 + 16 * 24)


def flat(n):
    return MemoryNeed(cache=n * 2**20, logits=0, recording=0, kept=n * 2**10)


class TestRefusal:
    def test_says_what_is_needed_what_there_is_and_the_largest_n(self):
        with pytest.raises(ConfigurationError) as refused:
            check_memory(flat, 4096, 64, device=2**30, host=2**30, shared=True)
        assert str(refused.value) == (
            "n=4096 with max_new_tokens=64 needs about 4.0 GiB beside the weights (cache 4.0 GiB, logits 0.0 MiB, "
            "recording 0.0 MiB, candidates 4.0 MiB), and 1.0 GiB are available; the largest n that fits is 1023; "
            "generate more in waves (wave=1023), or lower max_new_tokens"
        )
        check_memory(flat, 1023, 64, device=2**30, host=2**30, shared=True)

    def test_device_and_host_apart(self):
        check_memory(flat, 1024, 64, device=2**30, host=2**20, shared=False)
        with pytest.raises(ConfigurationError, match=r"1\.0 GiB on the GPU .* n that fits is 1024"):
            check_memory(flat, 1025, 64, device=2**30, host=2**40, shared=False)
        with pytest.raises(ConfigurationError, match=r"1\.0 MiB on the host .* n that fits is 512"):
            check_memory(flat, 1024, 64, device=2**30, host=2**19, shared=False)

    def test_not_even_one(self):
        with pytest.raises(ConfigurationError, match="not even one candidate fits"):
            check_memory(flat, 1, 64, device=1000, host=None, shared=True)

    def test_where_nothing_is_known_nothing_is_refused(self):
        check_memory(flat, 10**9, 64, device=None, host=None, shared=True)
        check_memory(flat, 10**9, 64, device=None, host=None, shared=False)


def test_more_candidates_fit_where_they_share_their_prompt(monkeypatch):
    from nad_agents.engine.hf import request_checks as hf

    monkeypatch.setattr(hf, "available_device_memory", lambda _: 2**26)
    monkeypatch.setattr(hf, "return_free_memory", lambda: None)
    request = GenerationRequest((1,) * 1500, SamplingConfig(n=100_000, max_new_tokens=50, seed=0))
    model, largest = tiny_model(max_position_embeddings=2048), {}
    for shares in (True, False):
        with pytest.raises(ConfigurationError) as refused:
            HFEngine(model, byte_tokenizer(), share_prompts=shares).check(request)
        largest[shares] = int(str(refused.value).split("largest n that fits is ")[1].split(";")[0])
    assert largest[True] > 5 * largest[False] > 0


GPU = torch.device("cuda")


@pytest.fixture
def free_on_the_gpu(monkeypatch):
    """A GPU that says how much is free."""

    def set_free(size):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (size, 141 * 2**30))
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 2**20)
        monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 0)

    return set_free


class TestRowsByTheMemoryOfAGPU:
    def test_half_of_the_memory_is_taken(self, free_on_the_gpu):
        shape = ModelShape.of(AutoConfig.for_model("llama", **LLAMA_8B), torch.bfloat16)
        widths = [LLAMA_8B["intermediate_size"]] * 32
        sampling, found = SamplingConfig(max_new_tokens=1024, seed=0), []
        for size in (8 * 2**30, 40 * 2**30, 120 * 2**30):
            free_on_the_gpu(size)
            rows = RequestMemory(shape, GPU, shares_prompt=True).fitting_rows(widths)
            need = [
                memory_need(shape, sampling, 1024, n, recording=RecordingConfig(), widths=widths, shares_prompt=True)
                for n in (rows, rows + 1)
            ]
            assert need[0].device <= (size + 2**20) / 2 < need[1].device
            found.append(rows)
        assert 8 < found[0] < found[1] < found[2] < 2048

    def test_there_is_a_row_and_there_are_not_too_many(self, free_on_the_gpu):
        shape = ModelShape.of(AutoConfig.for_model("gpt2"), torch.bfloat16)
        free_on_the_gpu(0)
        assert RequestMemory(shape, GPU, shares_prompt=True).fitting_rows([]) == 1
        free_on_the_gpu(2**50)
        assert RequestMemory(shape, GPU, shares_prompt=True).fitting_rows([]) == 2048

    def test_a_decoder_takes_what_fits_unless_it_is_told(self, free_on_the_gpu, monkeypatch):
        free_on_the_gpu(2**24)
        assert tiny_decoder().max_rows == 128
        model = tiny_model()
        engine = HFEngine(model, byte_tokenizer())
        assert engine.fitting_rows == 128
        engine._memory = replace(engine._memory, device=GPU)
        widths = [block.width for block in engine._recorder.blocks]
        memory = RequestMemory(ModelShape.of(model.config, model.dtype), GPU, shares_prompt=True)
        assert engine.fitting_rows == memory.fitting_rows(widths) < 128
        monkeypatch.setattr(HFEngine, "fitting_rows", 77)
        assert tiny_decoder().max_rows == 77
        assert tiny_decoder(max_rows=5).max_rows == 5

    def test_the_recorders_buffer_takes_an_eighth_of_what_is_free(self, free_on_the_gpu):
        recorder = BatchRecorder(SimpleNamespace(device=GPU))
        recorder._tap = SimpleNamespace(held_bytes=2**20)
        for size, expected in ((0, 16 * 2**20), (2**32, (2**32 + 2 * 2**20) // 8), (2**40, 2**30)):
            free_on_the_gpu(size)
            assert recorder._buffer_bytes(["activation"]) == expected
        free_on_the_gpu(0)
        assert recorder._buffer_bytes(["activation", "attribution"]) == 64 * 2**20
        recorder = BatchRecorder(tiny_model())
        assert recorder._buffer_bytes(["activation"]) == 16 * 2**20


def test_what_earlier_requests_left_is_handed_back_before_refusing(monkeypatch):
    from nad_agents.engine.hf import request_checks as hf

    left = [2**10, 2**40]
    monkeypatch.setattr(hf, "available_device_memory", lambda _: left[0])
    monkeypatch.setattr(hf, "return_free_memory", lambda: left.pop(0))
    request = GenerationRequest((1, 2), SamplingConfig(n=2, max_new_tokens=8, seed=0))
    HFEngine(tiny_model(), byte_tokenizer()).check(request)
    assert left == [2**40]


def test_a_decoder_refuses_before_anything_runs():
    decoder: NeuronAgreementDecoder = tiny_decoder()
    forwards = []
    hook = decoder.loaded.model.register_forward_pre_hook(lambda *_: forwards.append(1))
    try:
        for config in (None, NADConfig(selector="first", record=False)):
            with pytest.raises(ConfigurationError, match=r"n=1000000000 .* the largest n that fits is \d+"):
                decoder.decode("hello", sampling=SamplingConfig(n=10**9), config=config)
    finally:
        hook.remove()
    assert not forwards
    assert decoder.engine.rows == 0
