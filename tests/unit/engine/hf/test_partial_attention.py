"""Attention over parts of the keys, merged, is attention over all of them."""

import pytest
import torch

from nad_agents.engine.hf.prefix.partial_attention import PartialAttention, attend, merge, merged_output

SCALE = 0.3


def states(queries, positions, value_dim=16, dtype=torch.float32):
    torch.manual_seed(queries + positions)
    shapes = ((1, 2, queries, 16), (1, 2, positions, 16), (1, 2, positions, value_dim))
    return tuple(torch.randn(shape).to(dtype) for shape in shapes)


def expected(query, keys, values, *, softcap=None, mask=None):
    scores = query.double() @ keys.double().mT * SCALE
    scores = scores if softcap is None else softcap * torch.tanh(scores / softcap)
    scores = scores if mask is None else scores.masked_fill(~mask, -torch.inf)
    return scores.softmax(-1) @ values.double(), scores.logsumexp(-1)


def check(found, wanted, atol=1e-5):
    torch.testing.assert_close(found.output.double(), wanted[0], rtol=0, atol=atol)
    torch.testing.assert_close(found.lse.double(), wanted[1], rtol=0, atol=atol)


@pytest.mark.parametrize("positions", [1, 7, 600, 4096, 5003])
@pytest.mark.parametrize("value_dim", [16, 12])
def test_of_few_and_of_many_keys(positions, value_dim):
    parts = states(6, positions, value_dim)
    check(attend(*parts, scale=SCALE), expected(*parts))


@pytest.mark.parametrize("options", [{}, {"softcap": 2.0}])
def test_of_tokens_that_see_those_before_them(options):
    parts = states(40, 40)
    mask = torch.ones(40, 40, dtype=torch.bool).tril()
    check(attend(*parts, scale=SCALE, causal=True, **options), expected(*parts, mask=mask, **options))
    window = mask & ~mask.tril(-9)
    found = attend(*parts, scale=SCALE, causal=True, mask=window, **options)
    check(found, expected(*parts, mask=window, **options))


@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("cut", [1, 100, 299])
def test_of_two_parts(cut, softcap):
    query, keys, values = states(5, 300)
    one = attend(query, keys[:, :, :cut], values[:, :, :cut], scale=SCALE, softcap=softcap)
    other = attend(query, keys[:, :, cut:], values[:, :, cut:], scale=SCALE, softcap=softcap)
    check(merge(one, other), expected(query, keys, values, softcap=softcap))
    assert torch.equal(merge(one, other).output, merged_output(one, other))


def test_a_part_of_which_a_query_sees_nothing_counts_for_nothing():
    query, keys, values = states(3, 8)
    mask = torch.tensor([[True] * 4, [False] * 4, [True, False, True, False]])
    hidden = attend(query, keys[:, :, :4], values[:, :, :4], scale=SCALE, mask=mask)
    assert torch.isneginf(hidden.lse[:, :, 1]).all()
    assert not hidden.output[:, :, 1].any()
    seen = attend(query, keys[:, :, 4:], values[:, :, 4:], scale=SCALE)
    whole = torch.cat([mask, torch.ones(3, 4, dtype=torch.bool)], dim=1)
    check(merge(hidden, seen), expected(query, keys, values, mask=whole))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_merging_is_done_in_thirty_two_bits(dtype):
    query, keys, values = states(5, 300, dtype=dtype)
    merged = merge(*(attend(query, keys[:, :, part], values[:, :, part], scale=SCALE)
                     for part in (slice(0, 150), slice(150, None))))  # fmt: skip
    assert merged.output.dtype == merged.lse.dtype == torch.float32
    check(merged, expected(query, keys, values), atol=2e-2)
    assert isinstance(merged, PartialAttention)
