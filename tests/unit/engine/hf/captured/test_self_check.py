import pytest
import torch

from nad_agents.engine.hf.captured.self_check import agree


def logits(rows=16):
    return torch.randn(4, rows, 2000, generator=torch.Generator().manual_seed(3)) * 5


def test_in_32_bits_every_row_has_to_agree():
    right = logits()
    assert agree(right, right, torch.float32)
    assert agree(right * (1 + 1e-5), right, torch.float32)
    wrong = right.clone()
    wrong[3, 7] *= 1.001
    assert not agree(wrong, right, torch.float32)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_16_bits_rows_may_differ_by_roundings(dtype):
    right = logits()
    assert agree(right.to(dtype).float(), right, dtype)
    noise = torch.randn_like(right) * right.norm(dim=-1, keepdim=True) / right.shape[-1] ** 0.5
    precision = torch.finfo(dtype).eps
    assert agree(right + 4 * precision * noise, right, dtype)
    assert not agree(right + 16 * precision * noise, right, dtype)
    # a token that goes to another expert
    few = right.clone()
    few[2, 3] += 0.4 * noise[2, 3]
    assert agree(few, right, dtype)
    # a row that reads the keys of another
    few[2, 3] = right[2, 4]
    assert not agree(few, right, dtype)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_what_is_not_a_number_does_not_agree(dtype):
    right = logits(2)
    broken = right.clone()
    broken[0, 0, 0] = torch.nan
    assert not agree(broken, right, dtype)
    assert not agree(right, broken, dtype)
    assert not agree(broken, broken, dtype)


def test_nothing_agrees_with_nothing():
    assert agree(torch.zeros(1, 0), torch.zeros(1, 0), torch.float32)
