"""Suffixes that move into the buffers, and within them; and the attention of a step over the buffers."""

from functools import partial

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from nad_agents.engine.hf.captured import static_cache
from nad_agents.engine.hf.captured.static_cache import StaticStepCache
from nad_agents.engine.hf.prefix.blocks import Block
from nad_agents.engine.hf.prefix.layers import Suffix

FILLED = 4


def memory(rows):
    """Memory that a row of another request has left behind."""
    return Block(*(torch.full((rows, 2, 10, 8), torch.nan) for _ in range(2)))


def suffix(rows, dropped=0):
    made = Suffix(dropped=dropped)
    made.append(torch.rand(rows, 2, FILLED, 8), torch.rand(rows, 2, FILLED, 8), window=None, reserve=0)
    return made


@pytest.mark.parametrize("dropped", [0, 3])
def test_nothing_is_left_of_what_was_there(dropped):
    moved, block = suffix(3, dropped), memory(3)
    before = moved.between(dropped, dropped + FILLED)
    moved.move_to(block)
    for stored, own in ((block.keys, before.keys), (block.values, before.values)):
        assert torch.equal(stored[:, :, dropped : dropped + FILLED], own)
        assert not stored[:, :, :dropped].any()
        assert not stored[:, :, dropped + FILLED :].any()
    # the next token goes there too
    moved.append(torch.ones(3, 2, 1, 8), torch.ones(3, 2, 1, 8), window=None, reserve=0)
    assert (block.keys[:, :, dropped + FILLED] == 1).all()
    assert moved.keys.data_ptr() == block.keys[:, :, dropped:].data_ptr()


def test_rows_move_up_within_the_same_memory():
    block, moved = memory(5), suffix(3)
    keys = moved.keys[:, :, :FILLED].clone()
    moved.move_to(Block(block.keys[2:], block.values[2:]))
    moved.move_to(Block(block.keys[1:4], block.values[1:4]))
    assert torch.equal(block.keys[1:4, :, :FILLED], keys)
    assert torch.equal(moved.keys, block.keys[1:4])


def test_rows_that_are_there_are_not_copied():
    block, moved = memory(3), suffix(3)
    moved.move_to(block)
    block.keys[:, :, FILLED:] = 7
    moved.move_to(block)
    assert (block.keys[:, :, FILLED:] == 7).all()


class TestKernelOfGPUs:
    """Which of torch's kernels a step calls on a GPU."""

    @pytest.fixture
    def cache(self):
        """Two rows, the second of which may see one position more, in a part of larger buffers."""
        keys, values = torch.rand(2, 4, 2, 64, 8).half().narrow(3, 0, 48).unbind()
        layer = static_cache.StaticLayer(keys, values, torch.zeros(4, 1, 1, 1, dtype=torch.long), None)
        cache = StaticStepCache([layer], torch.tensor([3, 4, 47, 0]), torch.float16)
        cache.begin_step()
        return cache

    def attend(self, cache, query):
        layer = cache.layers[0]
        return cache.attend(query, layer.keys, layer.values, scale=0.3, softcap=None, sinks=None)

    @pytest.mark.parametrize("kernel", ["flash", "efficient"])
    def test_it_is_the_memory_efficient_one(self, cache, monkeypatch, kernel):
        query = torch.rand(4, 6, 1, 8).half()
        expected = self.attend(cache, query)
        shapes = []

        def efficient(query, keys, values, mask, log_sum_exp, *, scale):
            shapes.append(mask.shape)
            # what the kernel requires of a mask, which torch ensures where it chooses the kernel itself
            assert mask.shape == (*query.shape[:3], keys.shape[2])
            assert mask.dtype == query.dtype
            assert all(stride % 8 == 0 for stride in mask.stride()[:-1])
            assert mask.stride(-1) == 1
            assert not log_sum_exp
            return scaled_dot_product_attention(query, keys, values, mask, scale=scale), None, None, None

        monkeypatch.setattr(static_cache, "flash_kernel", lambda *_: kernel)
        monkeypatch.setattr(torch, "_scaled_dot_product_efficient_attention", efficient)
        assert torch.equal(self.attend(cache, query), expected)
        assert shapes == [(4, 2, 3, 48)]

    def test_torch_takes_the_call(self, monkeypatch):
        monkeypatch.setattr(static_cache, "flash_kernel", lambda *_: "flash")
        make = partial(torch.empty, device="meta", dtype=torch.bfloat16)
        query, keys, values, mask = make(4, 2, 3, 16), make(4, 2, 64, 16), make(4, 2, 64, 8), make(4, 1, 1, 64)
        assert static_cache._masked_attention(query, keys, values, mask, 0.3).shape == (4, 2, 3, 8)

    @pytest.mark.parametrize(("kernel", "width"), [(None, 8), ("flash", 12)])
    def test_where_it_does_not_fit_torch_chooses(self, monkeypatch, kernel, width):
        monkeypatch.setattr(static_cache, "flash_kernel", lambda *_: kernel)
        query, keys, values = torch.rand(2, 2, 3, 8), torch.rand(2, 2, 16, 8), torch.rand(2, 2, 16, width)
        found = static_cache._masked_attention(query, keys, values, torch.zeros(2, 1, 1, 16), 0.3)
        torch.testing.assert_close(found, scaled_dot_product_attention(query, keys, values, scale=0.3))
