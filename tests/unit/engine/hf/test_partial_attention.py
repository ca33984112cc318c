"""Attention over parts of the keys, merged, is attention over all of them."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from nad_agents.engine.hf.prefix import partial_attention
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


class Calls(TorchDispatchMode):
    """Remembers the kernels that are called, with the shapes of their queries and keys."""

    def __init__(self):
        super().__init__()
        self.kernels = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        if name.startswith("_scaled_dot_product"):
            self.kernels.append((name, tuple(args[0].shape), tuple(args[1].shape)))
        return function(*args, **(kwargs or {}))


class TestOnGraphicsProcessors:
    """Which kernels a GPU would run; tensors on PyTorch's device without memory take the place of its own."""

    @pytest.fixture(autouse=True)
    def gpu(self, monkeypatch):
        monkeypatch.setattr(partial_attention, "_capability", lambda _: self.capability)
        monkeypatch.setattr(partial_attention, "_processors", lambda _: 132)
        choose = partial_attention.flash_kernel
        monkeypatch.setattr(partial_attention, "flash_kernel", lambda _, *of: choose(torch.device("cuda"), *of))
        self.capability = (9, 0)

    def attend(self, queries, positions, dtype, head_dim=64, **options):
        query = torch.empty(1, 2, queries, head_dim, dtype=dtype, device="meta")
        keys = torch.empty(1, 2, positions, head_dim, dtype=dtype, device="meta")
        with Calls() as calls:
            part = attend(query, keys, torch.empty_like(keys), scale=SCALE, **options)
        assert part.output.shape == query.shape
        assert part.lse.shape == query.shape[:3]
        assert part.lse.dtype == torch.float32
        return calls.kernels

    @pytest.mark.parametrize(
        ("dtype", "kernel"),
        [
            (torch.float16, "_scaled_dot_product_flash_attention"),
            (torch.bfloat16, "_scaled_dot_product_flash_attention"),
            (torch.float32, "_scaled_dot_product_efficient_attention"),
        ],
    )
    @pytest.mark.parametrize("causal", [True, False])
    def test_the_kernel_is_one_that_returns_the_log_sum_exp(self, dtype, kernel, causal):
        shape = (1, 2, 40, 64)
        assert self.attend(40, 40, dtype, causal=causal) == [(kernel, shape, shape)]

    def test_many_keys_keep_every_multiprocessor_busy(self):
        name = "_scaled_dot_product_flash_attention"
        # 66 tiles of two heads would occupy all processors, and 8,000 keys have 15 parts of at least 512
        wanted = [(name, (15, 2, 48, 64), (15, 2, 533, 64)), (name, (1, 2, 48, 64), (1, 2, 5, 64))]
        assert self.attend(48, 8000, torch.bfloat16) == wanted
        # many queries occupy them by themselves
        assert len(self.attend(128 * 66, 8000, torch.bfloat16)) == 1

    @pytest.mark.parametrize(
        ("capability", "dtype", "head_dim", "options"),
        [
            ((7, 5), torch.bfloat16, 64, {}),
            ((9, 0), torch.bfloat16, 264, {}),
            ((9, 0), torch.float16, 60, {}),
            ((9, 0), torch.float32, 64, {"softcap": 30.0}),
        ],
    )
    def test_matrix_products_where_no_kernel_will_do(self, capability, dtype, head_dim, options):
        self.capability = capability
        assert self.attend(8, 100, dtype, head_dim, **options) == []

    def test_older_ones_have_one_kernel(self):
        self.capability = (7, 5)
        (call,) = self.attend(8, 100, torch.float16)
        assert call[0] == "_scaled_dot_product_efficient_attention"

    def test_those_of_amd_get_matrix_products(self, monkeypatch):
        monkeypatch.setattr(torch.version, "hip", "6.4")
        assert self.attend(8, 100, torch.bfloat16) == []


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2), (torch.float16, 4e-3)])
@pytest.mark.parametrize("causal", [True, False])
def test_matrix_products_compute_what_the_kernels_do(dtype, atol, causal, monkeypatch):
    parts = states(40, 40 if causal else 5003, dtype=dtype)
    mask = torch.ones(40, 40, dtype=torch.bool).tril() if causal else None
    kernel = attend(*parts, scale=SCALE, causal=causal)
    monkeypatch.setattr(partial_attention, "flash_kernel", lambda *_: None)
    products = attend(*parts, scale=SCALE, causal=causal)
    check(products, expected(*parts, mask=mask), atol=atol)
    check(kernel, expected(*parts, mask=mask), atol=atol)
    assert not torch.equal(products.lse, kernel.lse)
