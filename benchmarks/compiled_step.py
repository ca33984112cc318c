"""Measure a decoding step that transformers compiles, with its static cache, against the engine's own step.

    python -m benchmarks.compiled_step [--model MODEL] [--dtype DTYPE] [--rows 1 16] [--tap] [--pairs 9]

Both draw and keep signals by the same code; only the forward pass differs. With `--tap` both record the neurons, the
compiled model by copies inside its graph. On a CPU the ratios are of the processor time of one thread. `--model tiny`
is a random model of two layers.
"""

from __future__ import annotations

import argparse
import copy
import resource
import statistics
import time
from typing import Any

import torch
from transformers import CompileConfig, PreTrainedModel, StaticCache

from benchmarks.decoding import paired_seconds
from nad_agents import SamplingConfig, testing
from nad_agents.engine.base import GenerationRequest
from nad_agents.engine.hf.engine import HFEngine
from nad_agents.models import DEFAULT_MODEL, LoadedModel, load_model
from nad_agents.neurons.architectures import find_feed_forwards
from nad_agents.neurons.recorder import activated_neurons, neuron_layout
from nad_agents.neurons.recording_config import RecordingConfig
from nad_agents.neurons.tap import LayerActivations

PROMPT, STEPS = 64, 8
RECORDING = RecordingConfig()


class CompiledEngine(HFEngine):
    """An engine whose forward passes for one token of every row are compiled by transformers.

    Args:
        loaded: The model.
        rows: Number of rows; another number would be another cache and another graph.
        length: Positions of the static cache.
        tap: Whether the graph copies the activations of every down projection.
    """

    def __init__(self, loaded: LoadedModel, rows: int, length: int, *, tap: bool) -> None:
        # a copy, as the hooks stay on it
        model = copy.deepcopy(loaded.model)
        super().__init__(model, loaded.tokenizer, share_prompts=False)
        self._static: StaticCache | None = None
        self._length = length
        self._blocks = find_feed_forwards(model)
        self._tapped: list[torch.Tensor] = []
        self._slot = torch.zeros(1, dtype=torch.long, device=self._device)
        for block in self._blocks if tap else ():
            assert block.dense is not None
            buffer = torch.empty(STEPS, rows, block.width, dtype=loaded.dtype, device=self._device)
            block.dense.down.register_forward_pre_hook(self._copy(buffer))
            self._tapped.append(buffer)
        self._call: Any = torch.compile(self.model.__call__, **CompileConfig().to_dict())

    def _copy(self, buffer: torch.Tensor) -> Any:
        def copy(_module: Any, inputs: tuple[torch.Tensor, ...]) -> None:
            if inputs[0].shape[1] == 1:
                buffer.index_copy_(0, self._slot, inputs[0].reshape(1, *buffer.shape[1:]))

        return copy

    @torch.inference_mode()
    def fill(self, prompt: list[int], rows: int) -> None:
        """Read a prompt into every row of a new static cache."""
        self._static = StaticCache(self.model.config, max_cache_len=self._length)
        ids = torch.tensor([prompt[:-1]] * rows, device=self._device)
        self.model(input_ids=ids, past_key_values=self._static, use_cache=True, logits_to_keep=1)

    def _forward(self, tokens: torch.Tensor, positions: torch.Tensor, mask: Any, cache: Any) -> torch.Tensor:
        if self._static is None:
            return super()._forward(tokens, positions, mask, cache)
        options = {"position_ids": positions, "past_key_values": self._static, "logits_to_keep": 1}
        logits: torch.Tensor = self._call(input_ids=tokens, use_cache=True, **options).logits[:, -1].float()
        if self._tapped:
            self._slot.add_(1).remainder_(STEPS)
        return logits

    def neurons(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the neuron ids of the steps that were copied, int32 [steps, rows, k]."""
        layers = [LayerActivations(buffer) for buffer in self._tapped]
        return activated_neurons(layers, tokens, RECORDING, neuron_layout(self._blocks, RECORDING), self._blocks)


def compare(loaded: LoadedModel, rows: int, pairs: int, *, tap: bool) -> str:
    """Return a row of the table."""
    on_cpu = loaded.device.type == "cpu"
    clock = time.thread_time if on_cpu else time.perf_counter
    prompt = [1 + i % 200 for i in range(PROMPT)]
    total = STEPS * (pairs + 2)
    eager = HFEngine(loaded.model, loaded.tokenizer)
    compiled = CompiledEngine(loaded, rows, PROMPT + total, tap=tap)
    options = {"temperature": 0.8, "top_k": 50, "top_p": 0.95, "seed": 1}
    # no candidate may end early
    sampling = SamplingConfig(n=rows, max_new_tokens=total + 1, **options, generation_options={"eos_token_id": 0})
    mine = eager.start(GenerationRequest(prompt, sampling, RECORDING if tap else None))
    theirs = compiled.start(GenerationRequest(prompt, sampling))
    compiled.fill(prompt, rows)
    taken: list[torch.Tensor] = []

    def seconds(engine: HFEngine) -> float:
        started = clock()
        engine.step(STEPS)
        if engine is compiled and tap:
            taken.append(compiled.neurons(theirs.sequences[:, -STEPS:].T))
        if not on_cpu:
            torch.cuda.synchronize()
        return clock() - started

    started, cpu = time.perf_counter(), processor_seconds()
    seconds(compiled)
    compiling = f"{time.perf_counter() - started:.0f} s, {processor_seconds() - cpu:.0f} s"
    seconds(eager)
    seconds(compiled), seconds(eager)
    timed = paired_seconds(lambda: seconds(compiled), lambda: seconds(eager), pairs)
    ratios = sorted(one / other for one, other in timed)
    each = [1000 * statistics.median(times) / STEPS for times in zip(*timed, strict=True)]
    assert mine.tokens == theirs.tokens == total
    same = sum(mine.token_ids(i) == theirs.token_ids(i) for i in range(rows))
    found = f"{same} of {rows}"
    if tap:
        ids = torch.cat(taken)
        ours = torch.stack([torch.from_numpy(rollout.neurons) for rollout in mine.group().rollouts], 1)
        first = STEPS if same < rows else total
        shared = [
            len({*a.tolist()} & {*b.tolist()}) / len(a)
            for a, b in zip(ids[:first].flatten(0, 1), ours[:first].flatten(0, 1), strict=True)
        ]
        found += f", sets {statistics.mean(shared):.4f}"
    spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
    return f"| {rows} | {'yes' if tap else 'no'} | {each[0]:.1f} | {each[1]:.1f} | {spread} | {compiling} | {found} |"


def processor_seconds() -> float:
    """Processor time of this process and of the compilers that it has started."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def load(source: str, dtype: str, device: str) -> LoadedModel:
    """Load a model; "tiny" is a random one."""
    if source != "tiny":
        return load_model(source, dtype=dtype, device=device)
    loaded = testing.tiny_model("llama", vocab_size=2048)
    made: PreTrainedModel = loaded.model.to(device, getattr(torch, dtype) if dtype != "auto" else None)
    return LoadedModel(made, loaded.tokenizer, "tiny", "folder", loaded.path)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rows", nargs="+", type=int, default=[1, 16])
    parser.add_argument("--tap", action="store_true")
    parser.add_argument("--pairs", type=int, default=9)
    args = parser.parse_args()
    loaded = load(args.model, args.dtype, "cpu" if (args.model, args.device) == ("tiny", "auto") else args.device)
    dtype = str(loaded.dtype).removeprefix("torch.")
    print(f"{loaded.name}, {dtype}, {loaded.device}, {torch.get_num_threads()} threads, {args.pairs} pairs\n")
    print("| rows | recorded | compiled, ms a step | engine, ms a step | ratio | compiling, wall and CPU | same text |")
    print("|---|---|---|---|---|---|---|")
    for rows in args.rows:
        torch.compiler.reset()
        print(compare(loaded, rows, args.pairs, tap=args.tap), flush=True)


if __name__ == "__main__":
    main()
