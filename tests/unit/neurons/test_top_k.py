"""Both ways of finding the best neurons agree with the definition."""

import pytest
import torch

from nad_agents.neurons.top_k import LayerScores, top_neurons, top_neurons_at_once


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
    ids = top_neurons(map(LayerScores, layers), per_layer, k, 64, magnitudes=not signed)
    layers = layers if signed else [layer.abs() for layer in layers]
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
    ids = top_neurons([LayerScores(scores)], 4, 4, 4).tolist()[0]
    assert ids[0] == 2
    assert ids[1:] == [-1, -1, 3]


@pytest.mark.parametrize("tokens", [1, 3, 200])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("spread", [1e-7, 1e-4, 1e-2, 1.0])
def test_scores_that_only_their_low_bits_tell_apart_are_told_apart(spread, signed, tokens):
    generator = torch.Generator().manual_seed(2)
    scores = 1 + spread * torch.randn(tokens, 700, generator=generator)
    if signed:
        scores = -scores
    ids = top_neurons([LayerScores(scores)], 30, 30, 700)
    torch.testing.assert_close(scores.gather(1, ids.long()), by_definition([scores], 30, 30).float(), rtol=0, atol=0)


def test_a_layer_with_less_than_is_wanted_gives_no_zeros():
    scores = torch.zeros(2, 700)
    scores[0, 5], scores[0, 600], scores[1, 9] = 1e-42, 2.0, 1e-45
    assert top_neurons([LayerScores(scores)], 30, 3, 700).tolist() == [[600, 5, -1], [9, -1, -1]]


def test_wide_layers_take_the_general_way():
    scores = torch.zeros(1, (1 << 16) + 5, dtype=torch.bfloat16)
    scores[0, -1], scores[0, 3] = 2, 1
    assert top_neurons([LayerScores(scores)], 2, 2, 1 << 17).tolist() == [[(1 << 16) + 4, 3]]


@pytest.mark.parametrize("general", [False, True])
def test_places_are_turned_into_numbers_of_their_layer(general):
    scores = torch.zeros(2, (1 << 16) + 5 if general else 40)
    scores[0, 3], scores[0, 5], scores[1, 4] = 2, 1, 3
    numbers = torch.stack([torch.arange(scores.shape[1]) * 10, torch.arange(scores.shape[1]) * 10 + 7])
    layers = [LayerScores(scores, lambda places: numbers.gather(1, places))] * 2
    assert top_neurons(layers, 2, 3, 10**6).tolist()[0][:2] in ([30, 1_000_030], [1_000_030, 30])
    assert top_neurons(layers, 2, 3, 10**6).tolist()[1] in ([47, 1_000_047, -1], [1_000_047, 47, -1])


@pytest.mark.parametrize("width", [700, (1 << 16) + 5], ids=["packed", "general"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("signed", [False, True])
def test_all_layers_at_once_give_the_same_as_one_after_the_other(dtype, signed, width):
    generator = torch.Generator().manual_seed(3)
    scores = torch.randn(3, 4, width, generator=generator).to(dtype)
    scores[1, 2] = 0
    one_by_one = top_neurons(map(LayerScores, scores), 30, 50, width, magnitudes=not signed)
    at_once = top_neurons_at_once(scores, 30, 50, width, magnitudes=not signed)
    assert at_once.dtype == torch.int32
    values = [scores.transpose(0, 1).flatten(1).gather(1, ids.clamp_min(0).long()) for ids in (one_by_one, at_once)]
    # among equal scores either neuron will do
    torch.testing.assert_close(values[0], values[1], rtol=0, atol=0)
    assert torch.equal(one_by_one < 0, at_once < 0)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(("width", "per_layer", "k"), [(640, 10, 25), (640, 19, 30), (640, 1, 2), (650, 10, 25)])
def test_layers_side_by_side_and_their_columns_are_searched_alike(width, per_layer, k, signed, monkeypatch):
    # so that the stacks have two layers, and the last one
    monkeypatch.setattr("nad_agents.neurons.top_k._STACKED", 2 * 7 * width)
    generator = torch.Generator().manual_seed(3)
    # of a type that only torch.topk takes
    layers = [torch.randn(7, width, generator=generator).double() * 2**i for i in range(3)]
    layers += [torch.randn(7, 100, generator=generator).double()]
    layers += [torch.randn(7, width, generator=generator).double().sort().values]
    before = [layer.clone() for layer in layers]
    ids = top_neurons(map(LayerScores, layers), per_layer, k, 1000, magnitudes=not signed)
    assert all(map(torch.equal, layers, before))
    compared = layers if signed else [layer.abs() for layer in layers]
    found = torch.stack(
        [torch.stack([compared[i // 1000][row, i % 1000] for i in line]) for row, line in enumerate(ids.tolist())]
    )
    torch.testing.assert_close(found, by_definition(compared, per_layer, k), rtol=0, atol=0)
    assert all(len(set(line)) == len(line) for line in ids.tolist())


def test_columns_with_equal_maxima_and_zeros():
    scores = torch.zeros(1, 640, dtype=torch.float64)
    scores[0, ::16] = 1.0
    scores[0, 1::40] = 1.0
    (ids,) = top_neurons([LayerScores(scores)], 10, 10, 640).tolist()
    assert len(set(ids)) == 10
    assert all(scores[0, i] == 1 for i in ids)
    scores = torch.zeros(1, 640, dtype=torch.float64)
    scores[0, 17], scores[0, 18], scores[0, 600] = 3.0, 2.0, -1.0
    assert top_neurons([LayerScores(scores)], 10, 10, 640).tolist() == [[17, 18, *[-1] * 8]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_layers_of_more_neurons_than_16_bits_number_stand_beside_narrower_ones(dtype):
    generator = torch.Generator().manual_seed(5)
    layers = [torch.randn(2, width, generator=generator).to(dtype) for width in (40, (1 << 16) + 9, 40)]
    layers[1][:, -1] = 100
    stride = (1 << 16) + 9
    ids = top_neurons(map(LayerScores, layers), 5, 12, stride)
    assert ids[:, 0].tolist() == [2 * stride - 1] * 2
    found = torch.stack(
        [torch.stack([layers[i // stride][row, i % stride] for i in ids[row].tolist()]) for row in (0, 1)]
    )
    torch.testing.assert_close(found.double(), by_definition(layers, 5, 12), rtol=0, atol=0)
