"""What benchmarks/scale.py computes is what was measured."""

import importlib.util
import sys

import pytest

from tests.unit.sources import ROOT

_SPEC = importlib.util.spec_from_file_location("benchmarks_scale", ROOT / "benchmarks" / "scale.py")
scale = importlib.util.module_from_spec(_SPEC)
sys.modules[_SPEC.name] = scale
_SPEC.loader.exec_module(scale)


@pytest.mark.parametrize("measured", scale.MEASURED, ids=lambda one: one.what)
def test_every_measured_figure_is_computed(measured):
    factor = measured.computed() / measured.value
    assert 1 / measured.within <= factor <= measured.within, factor


def test_the_measured_figures_of_the_results_stand_there():
    results = (ROOT / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8")
    figures = (
        "12.5 ms at 4 to 1.5 ms at 256",
        "45 ms",
        "2 ms a token",
        "**0.42**",
        "0.48 (one pair)",
        "2 MB for 1,000",
    )
    for figure in figures:
        assert figure in results


def test_requests_that_wait_take_the_rows_that_pruning_frees():
    shape, machine = scale.SHAPES["7b"], scale.MACHINES["h200-vllm"]
    alone = scale.queue_seconds(shape, machine, 16, 128, "never", 1)
    many = scale.queue_seconds(shape, machine, 16, 128, "never", 16)
    # 16 requests of 16 rows fill the machine, so a seventeenth waits for all of them
    assert many < 2 * alone
    assert scale.queue_seconds(shape, machine, 16, 128, "never", 17) == pytest.approx(many + alone)
    assert scale.queue_seconds(shape, machine, 16, 128, "first_chunk", 17) < many + alone


def test_what_recording_moves_follows_from_the_shape():
    found = scale.recorder_bytes(scale.SHAPES["135m"], scale.MACHINES["cpu-2-cores"])
    assert found.copied == 30 * 1536 * 2
    assert found.buffer == 128 * found.copied
    assert found.leaving == 4 * 500 + 12
