"""Record the activated neurons of generated tokens.

It takes two steps, so that decoding is not slowed:

1. `ActivationTap` copies the input of every down projection into one preallocated buffer, one slot per step. A hook
   does nothing else: no top-k, no Python per row.
2. `activated_neurons` turns a full buffer into neuron ids, for all rows and steps at once: the `per_layer_top`
   best-scored neurons of each layer, then the `top_k` best of those over all recorded layers (arXiv 2510.26277,
   appendix B).

Memory: the buffer has steps * layers * rows * d_ff elements of the model's dtype. It takes at most `BUFFER_BYTES` or
one step, whichever is more, so a chunk may be reduced in several parts. What is kept of a token is top_k int32 ids.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

import torch
from torch import nn

from nad_agents.exceptions import ConfigurationError, RecordingError
from nad_agents.fork import call_in_forked_child
from nad_agents.neurons.architectures import FeedForward, Unembedding, find_feed_forwards
from nad_agents.neurons.recording_config import RecordingConfig
from nad_agents.neurons.top_k import top_neurons
from nad_agents.rollouts import NeuronLayout
from nad_agents.types import ScoreName

__all__ = ["BUFFER_BYTES", "ActivationTap", "activated_neurons", "neuron_layout"]

BUFFER_BYTES: Mapping[ScoreName, int] = {"activation": 16 * 2**20, "attribution": 64 * 2**20}
"""Greatest size of the buffer for each score; it always holds at least one step. A small buffer stays in the CPU's
cache, but attribution reads every down projection once per full buffer (both sizes are measured)."""


def neuron_layout(blocks: Sequence[FeedForward], config: RecordingConfig) -> NeuronLayout:
    """Number the neurons of the recorded layers.

    Args:
        blocks: The feed-forward blocks of all the model's layers.
        config: Says which layers are recorded.

    Raises:
        ConfigurationError: The layer range lies outside the model.
    """
    first, end = config.layers or (0, len(blocks))
    if not 0 <= first < end <= len(blocks):
        msg = f"layers={config.layers} does not fit a model of {len(blocks)} layers; end at {len(blocks)} or before"
        raise ConfigurationError(msg)
    return NeuronLayout(end - first, max(block.d_ff for block in blocks), first)


class ActivationTap:
    """Copies the feed-forward activations of decoding steps into a buffer while it is open.

    Use it as a context manager, any number of times: the entry registers the hooks, the exit removes them and leaves
    the model exactly as before. From `open` to the exit every forward pass with one position per row fills one step.
    The buffer's memory is kept from one use to the next until `free`.

    Args:
        model: The model to tap.
        blocks: The model's feed-forward blocks; None finds them.

    Attributes:
        blocks: See above.
        first_layer: Index, in the model, of the first layer that is copied.
    """

    def __init__(self, model: nn.Module, blocks: Sequence[FeedForward] | None = None) -> None:
        self.blocks = tuple(blocks if blocks is not None else find_feed_forwards(model))
        self._handles: list[Any] = []
        self._memory = torch.empty(0)
        self._layers: list[torch.Tensor] = []
        self._slots: list[tuple[torch.Tensor, ...]] = []
        self.first_layer = 0
        self._step = 0
        self._armed = False
        # the thread that would leave the context is not there in the child
        call_in_forked_child(self._close)

    def __enter__(self) -> ActivationTap:
        """Register one hook per block."""
        for block in self.blocks:
            self._handles.append(block.down.register_forward_pre_hook(self._hook(block.layer)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop copying and remove the hooks."""
        self._close()

    def _close(self) -> None:
        self._armed = False
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def open(
        self, rows: int, steps: int, layers: tuple[int, int], *, dtype: torch.dtype, device: torch.device, limit: int
    ) -> int:
        """Make room for `steps` decoding steps of `rows` rows and start copying.

        Args:
            rows: Rows in the batch.
            steps: Number of steps wanted.
            layers: (first, end) of the layers to copy.
            dtype: Dtype of the activations.
            device: Device of the activations.
            limit: Greatest size of the buffer in bytes; one step is always held.

        Returns:
            Number of steps that fit; after that many the caller must call `take`.

        Raises:
            RecordingError: The tap has not been entered as a context manager.
        """
        if not self._handles:
            msg = "the activation tap is not installed on the model; use it as a context manager"
            raise RecordingError(msg)
        first, end = layers
        widths = [block.d_ff for block in self.blocks[first:end]]
        steps = max(1, min(steps, limit // (rows * sum(widths) * dtype.itemsize)))
        elements = steps * rows * sum(widths)
        if self._memory.numel() < elements or (self._memory.dtype, self._memory.device) != (dtype, device):
            self._memory = torch.empty(elements, dtype=dtype, device=device)
        parts = torch.split(self._memory[:elements], [steps * rows * width for width in widths])
        self._layers = [part.view(steps, rows, width) for part, width in zip(parts, widths, strict=True)]
        self._slots = [layer.unbind() for layer in self._layers]
        self.first_layer, self._step, self._armed = first, 0, True
        return steps

    def next_step(self) -> int:
        """Go to the next slot and return the number of filled ones."""
        self._step += 1
        return self._step

    def take(self) -> list[torch.Tensor]:
        """Return the filled part of the buffer, one [steps, rows, d_ff] view per layer, and start over."""
        filled, self._step = self._step, 0
        return [layer[:filled] for layer in self._layers]

    def free(self) -> None:
        """Free the buffer's memory."""
        self._memory, self._layers, self._slots = torch.empty(0), [], []

    def _hook(self, layer: int) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def copy(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
            index = layer - self.first_layer
            if self._armed and 0 <= index < len(self._slots):
                slot = self._slots[index][self._step]
                slot.copy_(inputs[0].view(slot.shape))

        return copy


def activated_neurons(
    activations: Sequence[torch.Tensor],
    token_ids: torch.Tensor,
    config: RecordingConfig,
    layout: NeuronLayout,
    blocks: Sequence[FeedForward],
    *,
    unembedding: Unembedding | None = None,
) -> torch.Tensor:
    """Return the neuron ids of every token's activated set, best-scored first.

    Args:
        activations: Activations [steps, rows, d_ff] of each recorded layer.
        token_ids: [steps, rows], the token that each position emitted.
        config: Score, top_k and the limit per layer.
        layout: Numbering of the neurons.
        blocks: Feed-forward blocks of the recorded layers, in the order of `activations`.
        unembedding: The model's unembedding, which the attribution score needs.

    Returns:
        int32 [steps, rows, k], where k = min(top_k, what all layers offer). A neuron whose score is exactly zero is
        not activated; -1 stands in its place.

    Raises:
        RecordingError: The score is attribution, and the model has no unembedding matrix.
    """
    steps, rows = token_ids.shape
    directions = None
    if config.score == "attribution":
        if unembedding is None:
            msg = "the attribution score needs the unembedding matrix"
            raise RecordingError(msg)
        directions = unembedding.rows(token_ids.reshape(-1))

    def scores() -> Iterator[torch.Tensor]:
        for block, layer in zip(blocks, activations, strict=True):
            h = layer.reshape(steps * rows, block.d_ff)
            if directions is None:
                yield h
            else:
                weight = block.down_weight()
                # in place, as fresh memory for every layer would cost as much as the top-k
                yield (directions.to(weight.device, weight.dtype) @ weight).to(h.dtype).mul_(h)

    magnitudes = config.score == "activation"
    top = top_neurons(scores(), config.per_layer_top, config.top_k, layout.d_ff, magnitudes=magnitudes)
    return top.view(steps, rows, -1)
