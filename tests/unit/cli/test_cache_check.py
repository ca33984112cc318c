"""What is said of a model's cache is what its engine does."""

import re

import pytest

from nad_agents.cli.cache_check import check_cache
from tests.hybrid_models import hybrid_model
from tests.tiny_models import make_model, tiny_model

SAID = {
    "llama": ("kept once", "share a batch", "in pieces of 512 tokens; the longest beginning of any earlier prompt"),
    "gemma2": ("kept once", "share a batch", "in pieces of 512 tokens; .* go on from its end, as a sliding window"),
    "qwen3_5_text": ("kept once", "share a batch", "in pieces of 512 tokens; .* as a recurrent state cannot go back"),
    "jamba": ("kept once", "share a batch", "whole, .* only by the same prompt, as its recurrent layers begin anew"),
    "falcon": ("a copy of it: its code", "share a batch", "in pieces of 512 tokens; the longest beginning"),
    "mamba": ("a copy of it: it takes no positions", "share a batch", "whole, .* nothing of an earlier prompt"),
    "doge": ("a copy of it: its attention takes a mask of its own", "share a batch", "in pieces of 512 tokens"),
}


@pytest.mark.parametrize("family", SAID)
def test_prompt_batches_and_prefill(family):
    if family in {"qwen3_5_text", "jamba"}:
        model = hybrid_model(family)
    else:
        model = make_model(family) if family in {"mamba", "doge"} else tiny_model(family)
    prompt, batches, prefill, _ = check_cache(model)
    assert [finding.status for finding in (prompt, batches, prefill)] == ["ok"] * 3
    for finding, words in zip((prompt, batches, prefill), SAID[family], strict=True):
        assert re.search(words, finding.detail), finding.detail


@pytest.mark.parametrize(
    ("family", "words"),
    [
        ("llama", "captured in CUDA graphs on a GPU where that is exact and faster"),
        ("falcon", "one operation at a time, on a GPU too: its code"),
        ("qwen3_5_text", "its layers have recurrent states"),
    ],
)
def test_steps(family, words):
    steps = list(check_cache(hybrid_model(family) if family == "qwen3_5_text" else tiny_model(family)))[-1]
    assert (steps.name, steps.status) == ("steps", "ok")
    assert words in steps.detail
