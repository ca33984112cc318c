"""Fields of other models that are derived from the configs."""

import pytest
from pydantic import BaseModel, ValidationError

from nad_agents import NADConfig, SamplingConfig
from nad_agents.config_fields import bounds, description, optional_field
from nad_agents.types import VerificationConfig


class Derived(BaseModel):
    top_p: float | None = optional_field(SamplingConfig, "top_p")
    top_k_neurons: int | None = optional_field(NADConfig, "top_k_neurons", le=7)


@pytest.mark.parametrize("config", [SamplingConfig, NADConfig, VerificationConfig])
def test_every_option_says_in_sentences_what_it_does(config):
    for name in config.model_fields:
        assert description(config, name).endswith(".")
        assert "None" not in description(config, name)


def test_what_none_means_is_left_out():
    assert SamplingConfig.model_fields["seed"].description.endswith(
        "; None draws a fresh seed, which the result reports."
    )
    assert description(SamplingConfig, "seed") == "Seed of the candidates' random streams."


def test_bounds_are_those_of_the_config_or_stricter():
    assert bounds(SamplingConfig, "top_p") == {"gt": 0, "le": 1}
    assert bounds(SamplingConfig, "stop") == {}
    assert Derived() == Derived(top_p=None, top_k_neurons=None)
    assert Derived(top_p=1, top_k_neurons=7).top_k_neurons == 7
    for wrong in ({"top_p": 0}, {"top_p": 1.1}, {"top_k_neurons": 0}, {"top_k_neurons": 8}):
        with pytest.raises(ValidationError):
            Derived(**wrong)
    assert Derived.model_fields["top_k_neurons"].description == NADConfig.model_fields["top_k_neurons"].description
