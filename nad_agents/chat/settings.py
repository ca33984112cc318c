"""What one call of a local model runs with, resolved from the model's fields and the call's arguments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nad_agents.chat.params import NAD_FIELDS, SAMPLING_FIELDS, config_error
from nad_agents.exceptions import ConfigurationError
from nad_agents.types import NADConfig, SamplingConfig, VerificationConfig
from nad_agents.verification import Verifier

if TYPE_CHECKING:
    from nad_agents.decoder import NeuronAgreementDecoder

__all__ = ["Settings", "fields_of_decoder", "nad_config", "sampling_config"]


@dataclass(frozen=True)
class Settings:
    """What one call runs with.

    Attributes:
        model: The model to run; None for the decoder that the model was given.
        sampling: How candidates are sampled.
        config: What is recorded, and how candidates are compared.
        timeout: Seconds until generation is stopped; None sets no limit.
        include_candidates: Whether the evidence holds the candidates' texts and the similarity matrix.
        verifier: Judges the answers in rank order; None trusts the ranking.
        verification: How the ranking is walked; None leaves it to the decoder.
    """

    model: str | None
    sampling: SamplingConfig
    config: NADConfig
    timeout: float | None
    include_candidates: bool
    verifier: Verifier | None = None
    verification: VerificationConfig | None = None


def sampling_config(values: Mapping[str, Any], base: SamplingConfig) -> SamplingConfig:
    """Build the sampling options of a call.

    Args:
        values: Every field of SAMPLING_FIELDS by the model's name for it. With n=None there is one candidate when
            decoding greedily, where all would be the same, and as many as `base` says otherwise.
        base: Options of the decoder, or the defaults.

    Raises:
        ConfigurationError: A value is out of bounds, or two do not go together.
    """
    given = {name: values[field] for field, name in SAMPLING_FIELDS.items()}
    if given["n"] is None:
        given["n"] = 1 if given["temperature"] == 0 else base.n
    try:
        return SamplingConfig(**given)
    except ConfigurationError as error:
        raise config_error(error, SAMPLING_FIELDS) from error


def nad_config(values: Mapping[str, Any], base: NADConfig, *, compare: bool) -> NADConfig:
    """Build the selection options of a call.

    Args:
        values: Fields of NAD_FIELDS by the model's name for them; they win over `base`.
        base: Options of the decoder, those that the model was given in one object, or the defaults.
        compare: False for a single candidate, which takes the selector "first" and no recording unless `values`
            names a selector.

    Raises:
        ConfigurationError: A value is out of bounds.
    """
    given = {name: getattr(base, name) for name in NADConfig.model_fields}
    given |= {name: values[field] for field, name in NAD_FIELDS.items() if field in values}
    if given["selector"] is None:
        given["selector"] = base.selector
    if not compare and values.get("selector") is None:
        given |= {"selector": "first", "selector_options": {}, "record": False, "pruning": "never"}
    try:
        return NADConfig(**given)
    except ConfigurationError as error:
        raise config_error(error, NAD_FIELDS) from error


def fields_of_decoder(decoder: NeuronAgreementDecoder, *, with_config: bool) -> dict[str, Any]:
    """Return what a decoder was made with as values of a model's fields, for those that the model leaves out.

    n and selector are not among them: they stay None, since their defaults depend on one another and on the
    temperature of a call.

    Args:
        decoder: The decoder that a model was given.
        with_config: Whether the fields of NADConfig are wanted as well.
    """
    found = {field: getattr(decoder.sampling, name) for field, name in SAMPLING_FIELDS.items()}
    found |= {"stop": list(decoder.sampling.stop)}
    if with_config:
        found |= {field: getattr(decoder.config, name) for field, name in NAD_FIELDS.items()}
    found |= {"verifier": decoder.verifier, "verification": decoder.verification}
    return {field: value for field, value in found.items() if field not in {"n", "selector"}}
