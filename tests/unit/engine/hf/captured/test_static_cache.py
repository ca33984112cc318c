"""Suffixes that move into the buffers, and within them."""

import pytest
import torch

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
