"""Stack and select rows of recurrent layers; their states have no positions, so rows of any prompts can be stacked."""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import CacheLayerMixin, LinearAttentionCacheLayerMixin, LinearAttentionLayer

__all__ = ["append_states", "keeps_nothing", "select_states", "set_states"]

_STATES = ("conv_states", "recurrent_states")


def keeps_nothing(layer: Any) -> bool:
    """Return whether a cache's layer stands for one that keeps neither positions nor a state."""
    # not by its class, which older versions of transformers lack
    return not isinstance(layer, (CacheLayerMixin, LinearAttentionCacheLayerMixin))


def append_states(mine: LinearAttentionLayer, theirs: LinearAttentionLayer, my_rows: int, their_rows: int) -> None:
    """Append the states of another prompt's rows to a layer; a prompt of one token has a state of zeros.

    Args:
        mine: The layer that gains rows.
        theirs: The same layer of the other prompt's cache.
        my_rows: Rows of `mine`, which may be 0.
        their_rows: Rows of `theirs`.
    """
    for name in _STATES:
        for i in range(mine.number_of_states):
            have = [getattr(layer, f"is_{name}_initialized")[i] for layer in (mine, theirs)]
            if not any(have):
                continue
            template: torch.Tensor = getattr(mine if have[0] else theirs, name)[i]
            parts = [
                getattr(layer, name)[i] if has else template.new_zeros(rows, *template.shape[1:])
                for layer, has, rows in zip((mine, theirs), have, (my_rows, their_rows), strict=True)
            ]
            set_states(mine, name, i, torch.cat(parts) if my_rows else parts[1])


def select_states(layer: LinearAttentionLayer, rows: torch.Tensor) -> None:
    """Keep the states of some rows, int64 indices.

    Args:
        layer: A recurrent layer's cache, which is changed in place.
        rows: Int64 [rows], indices of the rows that stay.
    """
    for name in _STATES:
        states: dict[int, torch.Tensor | None] = getattr(layer, name)
        for i, state in states.items():
            if state is not None:
                states[i] = state.index_select(0, rows.to(state.device))


def set_states(layer: LinearAttentionLayer, name: str, index: int, states: torch.Tensor) -> None:
    """Set the states of a layer's rows.

    Args:
        layer: The layer.
        name: "conv_states" or "recurrent_states".
        index: Which of the layer's states.
        states: [rows, ...].
    """
    part: dict[str, Any] = {name: states}
    if not getattr(layer, f"is_{name}_initialized")[index]:
        # the layer's own method is not used, as a layer with attention uses that method for its keys
        LinearAttentionLayer.lazy_initialization(layer, state_idx=index, **part)
    layer.has_previous_state[index] = True
    getattr(layer, name)[index] = states
