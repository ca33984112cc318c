"""The activated neurons of a step, by one worker and by several."""

import itertools
import threading

import pytest
import torch

from nad_agents.engine.vllm.step_neurons import step_neurons
from nad_agents.neurons.recording_config import RecordingConfig
from nad_agents.neurons.top_k import LayerScores, top_neurons

ROWS, WIDTH, LAYERS = 5, 64, 3


def sets(ids):
    return [set(row) for row in ids.tolist()]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_worker_takes_the_best_of_each_layer_and_then_of_all(dtype):
    layers = torch.randn(LAYERS, ROWS, WIDTH).to(dtype)
    config = RecordingConfig(top_k_neurons=20, top_k_neurons_per_layer=8)
    expected = top_neurons(map(LayerScores, layers), 8, 20, WIDTH, magnitudes=True)
    torch.testing.assert_close(step_neurons(layers, config, stride=WIDTH), expected)


@pytest.mark.parametrize("workers", [2, 4])
def test_several_workers_find_what_one_would(workers):
    torch.manual_seed(1)
    layers = torch.randn(LAYERS, ROWS, WIDTH)
    layers[1, 2] = 0
    config = RecordingConfig(top_k_neurons=20, top_k_neurons_per_layer=8)
    parts = layers.chunk(workers, dim=-1)
    found = gathered(parts, config, workers)
    expected = step_neurons(layers, config, stride=WIDTH)
    assert sets(found) == sets(expected)


def gathered(parts, config, workers):
    """Run the workers side by side on threads, as a collective operation needs all of them."""
    barrier, shared, results = threading.Barrier(workers), {}, {}

    def work(rank):
        calls = itertools.count()

        def gather(part):
            call = next(calls)
            shared[call, rank] = part
            barrier.wait(10)
            return torch.cat([shared[call, r] for r in range(workers)], dim=-1)

        first = [rank * WIDTH // workers] * LAYERS
        results[rank] = step_neurons(parts[rank], config, stride=WIDTH, first_neurons=first, gather=gather)

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert all(torch.equal(results[0], result) for result in results.values())
    return results[0]
