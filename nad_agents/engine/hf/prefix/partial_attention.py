"""Compute attention over a part of the keys, with the log-sum-exp of the scores, and merge such parts exactly."""

from __future__ import annotations

from functools import cache
from typing import Any, Literal, NamedTuple

import torch

__all__ = ["FlashKernel", "PartialAttention", "attend", "flash_kernel", "merge", "merged_output"]

FlashKernel = Literal["cpu", "flash", "efficient"]
"""PyTorch's kernels that return the log-sum-exp: the CPU's, FlashAttention, and memory-efficient attention."""

_SPLIT_KEYS = {"cpu": 1024, "cuda": 512}
"""Number of keys per split if there are many keys: on a CPU as many as stay in its cache, on a GPU the fewest that
justify another output to merge."""

_FLASH_HEAD_DIM = 256
"""Greatest head size of the CUDA kernels."""


class PartialAttention(NamedTuple):
    """The attention of queries over some of their keys.

    Attributes:
        output: [batch, heads, queries, head_dim], the average of the values.
        lse: float32 [batch, heads, queries], the log-sum-exp of the scores; -inf where a query may see no key.
    """

    output: torch.Tensor
    lse: torch.Tensor


def attend(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    *,
    scale: float,
    causal: bool = False,
    softcap: float | None = None,
    mask: torch.Tensor | None = None,
) -> PartialAttention:
    """Compute attention over all of the given keys.

    Args:
        query: [batch, heads, queries, head_dim].
        keys: [batch, heads, positions, head_dim].
        values: [batch, heads, positions, value_dim].
        scale: Factor of the scores.
        causal: Whether query i sees the keys up to i only; needs as many queries as positions.
        softcap: Bound to which scores are squashed by tanh; None leaves them as they are.
        mask: bool [queries, positions], which keys a query may see; None shows all.
    """
    same_size = query.shape[-1] == keys.shape[-1] == values.shape[-1]
    kernel = flash_kernel(query.device, query.dtype, query.shape[-1])
    if softcap is None and mask is None and same_size and kernel is not None:
        return _attend_by_kernel(query, keys, values, scale, kernel, causal=causal)
    if causal:
        shown = torch.ones(query.shape[-2], keys.shape[-2], dtype=torch.bool, device=query.device).tril()
        mask = shown if mask is None else shown & mask
    return _attend_by_products(query, keys, values, scale, softcap, mask)


def flash_kernel(device: torch.device, dtype: torch.dtype, head_dim: int) -> FlashKernel | None:
    """Return the kernel that computes attention with the log-sum-exp of the scores; None leaves matrix products.

    Args:
        device: Device of the tensors.
        dtype: Their dtype.
        head_dim: Size of a head.
    """
    if device.type == "cpu":
        return "cpu"
    # PyTorch for AMD calls its devices "cuda" too, but has other kernels
    if device.type != "cuda" or torch.version.hip or head_dim > _FLASH_HEAD_DIM or head_dim % 8:
        return None
    ampere = _capability(device) >= (8, 0)
    if dtype in (torch.float16, torch.bfloat16) and ampere:
        return "flash"
    return "efficient" if dtype in (torch.float16, torch.float32) else None


@cache
def _capability(device: torch.device) -> tuple[int, int]:
    """Return what `torch.cuda.get_device_capability` returns, without its cost in every layer of every step."""
    return torch.cuda.get_device_capability(device)


@cache
def _processors(device: torch.device) -> int:
    """Return the number of a GPU's multiprocessors."""
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


def merge(one: PartialAttention, other: PartialAttention) -> PartialAttention:
    """Merge two parts into the attention over the keys of both; the output is float32.

    Args:
        one: Attention over some keys.
        other: Attention of the same queries over other keys.
    """
    return PartialAttention(merged_output(one, other), torch.logaddexp(one.lse, other.lse))


def merged_output(one: PartialAttention, other: PartialAttention) -> torch.Tensor:
    """Merge two parts into the float32 output over the keys of both, without the log-sum-exp for further merging.

    Args:
        one: Attention over some keys.
        other: Attention of the same queries over other keys.
    """
    share = torch.sigmoid(other.lse - one.lse).unsqueeze(-1)
    # the result is laid out in memory as the first argument is
    return torch.lerp(one.output.float(), other.output.float(), share)


def _attend_by_kernel(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scale: float, kernel: FlashKernel, *, causal: bool
) -> PartialAttention:
    """Compute attention with a kernel of `flash_kernel`; many keys are split."""
    splits = 1 if causal or len(query) > 1 else _splits(query, keys)
    if splits > 1:
        return _attend_in_splits(query, keys, values, scale, kernel, splits)
    if kernel == "cpu":
        output, lse = torch._scaled_dot_product_flash_attention_for_cpu(
            query, keys, values, is_causal=causal, scale=scale
        )
    elif kernel == "flash":
        output, lse, *_ = torch._scaled_dot_product_flash_attention(query, keys, values, is_causal=causal, scale=scale)
    else:
        output, lse, *_ = torch._scaled_dot_product_efficient_attention(
            query, keys, values, None, True, is_causal=causal, scale=scale
        )
    queries = query.shape[-2]
    # memory-efficient attention pads it
    return PartialAttention(output, lse if lse.shape[-1] == queries else lse[..., :queries])


def _splits(query: torch.Tensor, keys: torch.Tensor) -> int:
    """Return the number of parts into which the keys for a block of queries are split."""
    device, positions = query.device, keys.shape[2]
    if device.type == "cpu":
        # with few queries, reading the keys dominates the time
        return positions // _SPLIT_KEYS["cpu"] if positions >= 4 * _SPLIT_KEYS["cpu"] and query.shape[2] <= 512 else 1
    # enough splits to keep every multiprocessor busy
    tiles = query.shape[1] * -(-query.shape[2] // 128)
    return max(1, min(_processors(device) // tiles, positions // _SPLIT_KEYS["cuda"]))


def _attend_in_splits(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scale: float, kernel: FlashKernel, splits: int
) -> PartialAttention:
    """Attend to equal parts of the keys as one batch, then merge them with the remainder as one more part."""
    length = keys.shape[2] // splits
    cut = [
        tensor[0, :, : splits * length].view(-1, splits, length, tensor.shape[-1]).transpose(0, 1)
        for tensor in (keys, values)
    ]
    parts = _attend_by_kernel(query.expand(splits, -1, -1, -1), cut[0], cut[1], scale, kernel, causal=False)
    lse = parts.lse.logsumexp(0, keepdim=True)
    share = (parts.lse - lse).exp()[..., None]
    merged = PartialAttention((parts.output.float() * share).sum(0, keepdim=True), lse)
    if splits * length == keys.shape[2]:
        return merged
    rest = slice(splits * length, None)
    return merge(merged, _attend_by_kernel(query, keys[:, :, rest], values[:, :, rest], scale, kernel, causal=False))


def _attend_by_products(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    scale: float,
    softcap: float | None,
    mask: torch.Tensor | None,
) -> PartialAttention:
    if mask is not None:
        # the kernels, which models use with such masks, sum up the scores in 32 bits
        query, keys = query.float(), keys.float()
    scores: Any = (query @ keys.mT).float() * scale
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    lse = scores.logsumexp(-1)
    # a query that sees no key has no weights; its output is zero and does not count when parts are merged
    weights = (scores - lse[..., None]).exp().nan_to_num_(0.0) if mask is not None else (scores - lse[..., None]).exp()
    return PartialAttention(weights.to(values.dtype) @ values, lse)
