"""The settings of sweeps."""

from nad_agents.evaluation.variants import weight_sweep, width_sweep


def test_weights_are_all_quarters_that_sum_to_one():
    sweep = weight_sweep()
    assert len(sweep) == 15
    assert all(sum(v.options.values()) == 1 for (v,) in sweep.values())


def test_widths_end_with_what_was_recorded():
    assert list(width_sweep(300)) == [50, 100, 200, 300]
    assert [v.comparison.top_k_neurons for v in width_sweep(300)[300]] == [None] * 3
