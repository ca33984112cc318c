"""A cache grown in place holds what transformers' own holds, whatever happens to its rows."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from nad_agents.engine.hf.kv_cache import ROOM, GrowingLayer, expand_rows, grow_in_place
from nad_agents.exceptions import UnsupportedModelError


def step(rows, new=1):
    return torch.randn(rows, 2, new, 4), torch.randn(rows, 2, new, 4)


def twins(rows=3, length=5):
    plain, growing = DynamicCache(), DynamicCache()
    states = step(rows, length)
    for cache in (plain, growing):
        cache.update(*states, 0)
    grow_in_place(growing)
    assert type(growing.layers[0]) is GrowingLayer
    assert type(plain.layers[0]) is DynamicLayer
    return plain.layers[0], growing.layers[0]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(["step", "many", "select", "cut", "interleave"]), max_size=12))
def test_the_same_as_the_librarys(actions):
    plain, growing = twins()
    for action in actions:
        rows, length = plain.keys.shape[0], plain.keys.shape[-2]
        if action in {"step", "many"}:
            states = step(rows, 1 if action == "step" else ROOM)
            seen = [layer.update(*states) for layer in (plain, growing)]
            assert all(torch.equal(a, b) for a, b in zip(*seen, strict=True))
        for layer in (plain, growing):
            if action == "select":
                layer.batch_select_indices(torch.arange(rows)[:: 2 if rows > 1 else 1])
            elif action == "cut" and length > 1:
                layer.keys, layer.values = layer.keys[..., 1:, :], layer.values[..., 1:, :]
            elif action == "interleave" and rows < 8:
                layer.batch_repeat_interleave(2)
        assert torch.equal(plain.keys, growing.keys)
        assert torch.equal(plain.values, growing.values)
        assert plain.get_seq_length() == growing.get_seq_length()


def test_copied_once_in_many_steps():
    _, growing = twins(length=1)
    growing.update(*step(3))
    places = set()
    for _ in range(2 * ROOM):
        growing.update(*step(3))
        places.add(growing.keys.data_ptr())
    assert len(places) <= 3


@pytest.mark.parametrize("length", [1, ROOM - 1, ROOM, ROOM + 1])
def test_rows_that_left_are_not_written_to(length):
    _, growing = twins(length=length)
    growing.update(*step(3))
    before = growing.keys.clone()
    growing.batch_select_indices(torch.tensor([2, 0]))
    kept = growing.keys
    growing.update(*step(2))
    assert torch.equal(kept, before[[2, 0]])
    assert torch.equal(growing.keys[..., :-1, :], before[[2, 0]])


def test_states_that_a_layer_does_not_repeat_are_refused_by_name():
    class CompressedLayer(DynamicLayer):
        pass

    cache = DynamicCache()
    cache.layers = [CompressedLayer()]
    cache.update(torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 3, 4), 0)
    expand_rows(cache, 1)
    cache.layers[0].buffers = {"compressor": torch.zeros(1, 3, 4)}
    expand_rows(cache, 1)
    with pytest.raises(UnsupportedModelError, match="CompressedLayer"):
        expand_rows(cache, 2)
