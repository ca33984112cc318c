"""The engine over every family that the unit tests leave out: the same tokens and logits, whatever its cache."""

import statistics

import pytest

from tests.family_checks import (
    CACHES,
    ODD,
    OWN_COPIES,
    PRODUCTS,
    assert_greedy_is_generate,
    assert_logits_are_those_of_one_pass,
    assert_pieces_give_what_the_whole_prompt_gives,
    assert_rows_join_and_leave,
    assert_steps_between_reads_change_nothing,
    assert_the_cache_is_as_large_as_computed,
    error_of_sixteen_bits,
    model_of,
    others,
)
from tests.hybrid_models import HYBRIDS
from tests.tiny_models import FAMILIES

# older versions' StarCoder, which the first test that takes it imports
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")

every_other_cache = pytest.mark.parametrize("family", others([*FAMILIES, *HYBRIDS], CACHES))


@pytest.mark.parametrize("family", others(FAMILIES, ["llama"]))
def test_greedy_with_one_candidate_is_the_librarys_generate(family):
    assert_greedy_is_generate(family)


@pytest.mark.parametrize("family", others(FAMILIES, CACHES))
def test_pieces_give_the_candidates_and_logits_of_the_whole_prompt(family, monkeypatch):
    assert_pieces_give_what_the_whole_prompt_gives(family, monkeypatch)


@every_other_cache
def test_the_candidates_are_the_same_however_often_the_host_reads(family):
    assert_steps_between_reads_change_nothing(family)


@every_other_cache
def test_the_cache_is_the_one_that_generation_fills(family):
    assert_the_cache_is_as_large_as_computed(family)


@pytest.mark.parametrize("family", others(HYBRIDS, ["qwen3_5_text", "granitemoehybrid"]))
def test_rows_of_several_prompts_join_and_leave_without_changing_one_another(family):
    assert_rows_join_and_leave(family)


@pytest.mark.parametrize("name", others([*FAMILIES, *HYBRIDS, *ODD, *OWN_COPIES], [*CACHES, *PRODUCTS]))
def test_logits_are_those_of_one_forward_pass_over_the_whole_text(name, monkeypatch):
    assert_logits_are_those_of_one_pass(name, monkeypatch)


def test_over_all_families_sixteen_bits_are_no_further_from_thirty_two():
    # the ratio of one family varies by chance, as rounding changes which tokens are drawn and which experts are taken
    names = [name for name in [*FAMILIES, *HYBRIDS, *ODD] if name not in OWN_COPIES]
    ratios = {name: error_of_sixteen_bits(model_of(name)) for name in names}
    assert statistics.geometric_mean(ratios.values()) <= 1.05, ratios
