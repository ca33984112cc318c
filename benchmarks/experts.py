"""What recording costs on a mixture of experts, beside the experts implementations of transformers.

A random model of about a billion parameters decodes the same rows in turn with the library's eager and its default
experts implementation, without recording, and with recording on top of each. Nothing is downloaded.

    python benchmarks/experts.py            # in float32
    python benchmarks/experts.py --dtype bfloat16 --n 16
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from nad_agents.engine.base import GenerationRequest
from nad_agents.engine.hf.engine import HFEngine
from nad_agents.neurons.recording_config import RecordingConfig
from nad_agents.testing import byte_tokenizer
from nad_agents.types import SamplingConfig

CONFIG = {
    "hidden_size": 1024,
    "intermediate_size": 2048,
    "moe_intermediate_size": 384,
    "num_hidden_layers": 12,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "head_dim": 64,
    "num_experts": 64,
    "num_experts_per_tok": 8,
    "vocab_size": 32_000,
}


def peak_memory() -> float:
    """Return the largest size of the process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=8, help="candidates")
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()

    torch.manual_seed(0)
    tokenizer = byte_tokenizer()
    config = AutoConfig.for_model("qwen3_moe", **CONFIG, eos_token_id=None, bos_token_id=None, pad_token_id=0)
    with torch.device(options.device):
        model = (
            AutoModelForCausalLM.from_config(config, dtype=getattr(torch, options.dtype)).eval().requires_grad_(False)
        )
    print(f"{model.num_parameters() / 1e6:,.0f} million parameters, {options.dtype} on {options.device}, n={options.n}")
    engine = HFEngine(model, tokenizer)
    default = model.config._experts_implementation
    sampling = SamplingConfig(n=options.n, max_new_tokens=options.tokens, temperature=1.0, top_k=50, seed=1)

    def seconds(implementation: str, recording: RecordingConfig | None) -> float:
        model.set_experts_implementation(implementation)
        generation = engine.start(GenerationRequest(list(range(1, 65)), sampling, recording))
        started = time.perf_counter()
        while generation.live:
            engine.step(32)
        taken = time.perf_counter() - started
        assert model.config._experts_implementation == implementation
        engine.release(generation)
        return taken

    ways: dict[str, Callable[[], float]] = {
        "eager": lambda: seconds("eager", None),
        f"{default}": lambda: seconds(default, None),
        "recording, activation": lambda: seconds(default, RecordingConfig()),
        "recording, attribution": lambda: seconds(default, RecordingConfig("attribution")),
    }
    memory = {}
    for name, way in ways.items():
        way()
        memory[name] = peak_memory()
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.rounds):
        for name, way in ways.items():
            times[name].append(way())
    print(f"{'way':24} {'ms per step':>12} {'to eager':>9} {'peak MiB so far':>16}")
    for name, taken in times.items():
        ratio = statistics.median(mine / eager for mine, eager in zip(taken, times["eager"], strict=True))
        print(f"{name:24} {1000 * statistics.median(taken) / options.tokens:12.1f} {ratio:9.2f} {memory[name]:16,.0f}")


if __name__ == "__main__":
    main()
