"""What N candidates will take beside the weights, reckoned from the config before anything is generated.

Counted is what grows with N: keys and values at full length, the logits of a step with the copies that sampling
makes, the recorder's buffer with what its reduction needs, and what is kept of every token until the end.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import PreTrainedConfig

from nad_agents.exceptions import ConfigurationError
from nad_agents.neurons.recorder import BUFFER_BYTES, RecordingConfig
from nad_agents.types import SamplingConfig

if TYPE_CHECKING:
    import torch

__all__ = [
    "MemoryNeed",
    "ModelShape",
    "available_device_memory",
    "available_host_memory",
    "check_memory",
    "memory_need",
    "return_free_memory",
]


_LOGIT_COPIES = 5
"""float32 [N, vocabulary] at once: logits, their clone, what a processor makes of it, and two of the draw."""

_LOGIT_COPIES_SORTED = 8
"""The same while top_p sorts them all, without a top_k: also values, int64 places, softmax and cumulative sum."""

_HEAP_TENSOR = 32 * 2**20
"""On the host, tensors below this size come from the heap of the C library."""

_HEAP_HOLES = 1
"""What a growing cache leaves unused in that heap, as a share of its own size: at most that much was measured."""


@dataclass(frozen=True)
class ModelShape:
    """What decides how much memory a row takes.

    Attributes:
        windows: per layer, how many positions it keeps at most; None for all.
        kv_heads: heads of keys and values.
        heads: attention heads.
        head_dim: dimensions of a head.
        vocabulary: logits of a row.
        itemsize: bytes of an element of the model's dtype.
    """

    windows: tuple[int | None, ...]
    kv_heads: int
    heads: int
    head_dim: int
    vocabulary: int
    itemsize: int

    @classmethod
    def of(cls, config: PreTrainedConfig, dtype: torch.dtype) -> ModelShape:
        """The shape that a config describes; a model without attention keeps no keys and values."""
        text: Any = config.get_text_config(decoder=True)
        heads = int(getattr(text, "num_attention_heads", 0) or 0)
        hidden = int(getattr(text, "hidden_size", 0) or 0)
        head_dim = int(getattr(text, "head_dim", 0) or (hidden // heads if heads else 0))
        layers = int(getattr(text, "num_hidden_layers", 0) or 0)
        window = getattr(text, "sliding_window", None)
        kinds: Sequence[str] = getattr(text, "layer_types", None) or ("full_attention",) * layers
        windows = tuple(window if "sliding" in kind else None for kind in kinds)
        return cls(windows, _kv_heads(text, heads), heads, head_dim, int(text.vocab_size), dtype.itemsize)

    def cache_bytes(self, rows: int, positions: int) -> int:
        """Keys and values of `rows` rows with `positions` positions each."""
        kept = sum(positions if window is None else min(positions, window) for window in self.windows)
        return 2 * rows * kept * self.kv_heads * self.head_dim * self.itemsize


def _kv_heads(text: Any, heads: int) -> int:
    if getattr(text, "multi_query", False) and not getattr(text, "new_decoder_architecture", False):
        return 1
    for name in ("num_key_value_heads", "num_kv_heads"):
        found = getattr(text, name, None)
        if found:
            return int(found)
    return heads


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes that a request takes at its peak.

    Attributes:
        cache: keys and values, and the copies of one layer that a step makes. On the device.
        logits: of one step, with what sampling makes of them. On the device.
        recording: the recorder's buffer and its reduction. On the device.
        kept: tokens, signals and neuron ids of the candidates. On the host.
    """

    cache: int
    logits: int
    recording: int
    kept: int

    @property
    def device(self) -> int:
        """Bytes on the model's device."""
        return self.cache + self.logits + self.recording

    @property
    def total(self) -> int:
        """Bytes in all."""
        return self.device + self.kept


def memory_need(
    shape: ModelShape,
    sampling: SamplingConfig,
    prompt: int,
    n: int,
    *,
    recording: RecordingConfig | None = None,
    widths: Sequence[int] = (),
    chunk_size: int = 32,
    on_heap: bool = False,
) -> MemoryNeed:
    """What `n` candidates of full length take beside the weights.

    Args:
        shape: of the model.
        sampling: token limit and filters; its own n is not read.
        prompt: tokens of the prompt.
        n: candidates.
        recording: which neurons are recorded; None for none.
        widths: feed-forward width of each recorded layer.
        chunk_size: steps that the recorder's buffer holds where it has room.
        on_heap: whether the device's tensors come from the C library's heap, as the CPU's do.
    """
    positions = prompt + sampling.max_new_tokens
    # 1. a step makes new keys of one layer before the old ones go, and repeats grouped heads for all of them
    head = n * positions * shape.head_dim * shape.itemsize
    held = shape.cache_bytes(n, positions)
    cache = held + head * (shape.kv_heads + 2 * shape.heads * (shape.heads > shape.kv_heads))
    if on_heap:
        cache += _HEAP_HOLES * min(held, 2 * len(shape.windows) * _HEAP_TENSOR)
    # 2. one step's logits
    sorts = sampling.top_p < 1 and sampling.temperature > 0 and not sampling.top_k
    copies = _LOGIT_COPIES_SORTED if sorts else _LOGIT_COPIES
    logits = copies * n * shape.vocabulary * 4
    # 3. the buffer, and its reduction: scores of one layer, their order as integers, the best of every layer
    buffer, width = 0, 0
    if recording is not None and widths:
        per_step = n * sum(widths) * shape.itemsize
        steps = max(1, min(chunk_size, BUFFER_BYTES[recording.score] // per_step))
        pool = sum(min(recording.per_layer_top, d_ff) for d_ff in widths)
        width = min(recording.top_k, pool)
        buffer = steps * per_step + steps * n * (max(widths) * (shape.itemsize + 12) + pool * 24)
    # 4. token, four signals and neurons of every token, once as drawn and once as handed out
    kept = 2 * n * sampling.max_new_tokens * (8 + 4 * 4 + 4 * width) + 2 * n * positions * 8
    return MemoryNeed(cache, logits, buffer, kept)


def check_memory(
    need: Callable[[int], MemoryNeed],
    n: int,
    max_new_tokens: int,
    *,
    device: int | None,
    host: int | None,
    shared: bool,
) -> None:
    """Refuse a request that does not fit.

    Args:
        need: what so many candidates take.
        n: candidates that are asked for.
        max_new_tokens: for the message.
        device: bytes available to the model; None where unknown, which lets everything pass.
        host: bytes available beside the device.
        shared: whether device and host are the same memory.

    Raises:
        ConfigurationError: says how much is needed, how much there is, and the largest n that fits.
    """

    def fits(candidates: int) -> bool:
        wanted = need(candidates)
        if shared:
            return device is None or wanted.total <= device
        return (device is None or wanted.device <= device) and (host is None or wanted.kept <= host)

    if fits(n):
        return
    # the need grows with every candidate, so the border is found by halving
    largest, too_many = 0, n
    while too_many - largest > 1:
        middle = (largest + too_many) // 2
        largest, too_many = (middle, too_many) if fits(middle) else (largest, middle)
    wanted = need(n)
    on_device = shared or (device is not None and wanted.device > device)
    asked, there = (wanted.total if shared else wanted.device, device) if on_device else (wanted.kept, host)
    where = "" if shared else " on the GPU" if on_device else " on the host"
    advice = (
        f"the largest n that fits is {largest}; generate more in waves (wave={largest}), or lower max_new_tokens"
        if largest
        else "not even one candidate fits; lower max_new_tokens or shorten the prompt"
    )
    msg = (
        f"n={n} with max_new_tokens={max_new_tokens} needs about {_size(asked)}{where} beside the weights "
        f"(cache {_size(wanted.cache)}, logits {_size(wanted.logits)}, recording {_size(wanted.recording)}, "
        f"candidates {_size(wanted.kept)}), and {_size(there or 0)} are available; {advice}"
    )
    raise ConfigurationError(msg)


def _size(count: int) -> str:
    return f"{count / 2**30:,.1f} GiB" if count >= 2**30 else f"{count / 2**20:,.1f} MiB"


_PROC = Path("/proc")

_GROUPS = Path("/sys/fs/cgroup")

_V2 = ("memory.max", "memory.current", "inactive_file")

_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def available_host_memory(proc: Path = _PROC, groups: Path = _GROUPS) -> int | None:
    """Bytes that can be taken without swapping and without meeting a control group's limit; None where unknown.

    Args:
        proc: where the process file system is.
        groups: where control groups are, version 2 or 1.
    """
    return min([*_of_machine(proc), *_of_groups(proc, groups)], default=None)


def available_device_memory(device: torch.device) -> int | None:
    """Bytes that can be taken on a device; None where unknown. The CPU's and Metal's are the host's."""
    if device.type == "cuda":
        import torch

        free, _ = torch.cuda.mem_get_info(device)
        # what torch holds without using it is free to the next tensor
        return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
    return available_host_memory() if device.type in {"cpu", "mps"} else None


def return_free_memory() -> None:
    """Hand the unused parts of the C library's heap back to the system, where it can do that (glibc)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _of_machine(proc: Path) -> Iterator[int]:
    try:
        lines = (proc / "meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        if "SC_AVPHYS_PAGES" in getattr(os, "sysconf_names", {}):
            yield os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return
    yield from (int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))


def _of_groups(proc: Path, groups: Path) -> Iterator[int]:
    """What is left in the process's group and in every group above it, as each has its own limit."""
    try:
        entries = (proc / "self" / "cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for entry in entries:
        number, controllers, path = entry.split(":", 2)
        if number == "0":
            root, names = groups, _V2
        elif "memory" in controllers.split(","):
            root, names = groups / "memory", _V1
        else:
            continue
        folder = root / path.lstrip("/")
        for place in (folder, *folder.parents):
            # in a container the path may be the host's, and only the mount's root is there
            left = _left_in(place, *names)
            if left is not None:
                yield left
            if place == root:
                break


def _left_in(folder: Path, limit_name: str, usage_name: str, reclaimable_name: str) -> int | None:
    try:
        limit = (folder / limit_name).read_text(encoding="ascii").strip()
        if limit == "max":
            return None
        usage = int((folder / usage_name).read_text(encoding="ascii"))
        statistics = dict(line.split() for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines())
    except (OSError, ValueError):
        return None
    return max(0, int(limit) - usage + int(statistics.get(reclaimable_name, 0)))
