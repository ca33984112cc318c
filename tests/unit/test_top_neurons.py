"""Both ways of finding the best neurons agree with the definition."""

import pytest
import torch

from nad_agents.top_neurons import top_neurons


def by_definition(layers, per_layer, k):
    """Scores of the best, by sorting; [T, k]."""
    pool = torch.cat([layer.double().sort(descending=True).values[:, :per_layer] for layer in layers], dim=-1)
    return pool.sort(descending=True).values[:, :k]


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("per_layer", "k"), [(5, 12), (1, 3), (40, 500), (40, 7)])
def test_the_best_scores_are_found_in_order(dtype, per_layer, k, signed):
    generator = torch.Generator().manual_seed(1)
    layers = [torch.randn(9, 40, generator=generator).to(dtype) * 10**i for i in range(-1, 2)]
    layers = layers if signed else [layer.abs() for layer in layers]
    ids = top_neurons(iter(layers), per_layer, k, 64)
    assert ids.dtype == torch.int32
    assert ids.shape == (9, min(k, 3 * min(per_layer, 40)))
    rows = torch.arange(9)[:, None]
    found = torch.stack(layers, dim=1)[rows, ids // 64, ids % 64].double()
    torch.testing.assert_close(found, by_definition(layers, per_layer, k), rtol=0, atol=0)
    assert all(len(set(row)) == len(row) for row in ids.tolist())
    for position in range(3):
        assert int((ids // 64 == position).sum(-1).max()) <= per_layer


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_zero_of_either_sign_is_not_activated_and_negative_scores_are(dtype):
    scores = torch.tensor([[0.0, -0.0, 3.0, -2.0]], dtype=dtype)
    ids = top_neurons([scores], 4, 4, 4).tolist()[0]
    assert ids[0] == 2
    assert ids[1:] == [-1, -1, 3]


def test_wide_layers_take_the_general_way():
    scores = torch.zeros(1, (1 << 16) + 5, dtype=torch.bfloat16)
    scores[0, -1], scores[0, 3] = 2, 1
    assert top_neurons([scores], 2, 2, 1 << 17).tolist() == [[(1 << 16) + 4, 3]]
