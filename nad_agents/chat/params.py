"""Parameters of local models: derived from the library's configs, refused by name, and resolved for one call.

SamplingConfig and NADConfig say what an option means, what it defaults to and which values it takes. A front end's
model has the same options as flat fields: `option` declares such a field, so that nothing is said twice, and
`sampling_config` and `nad_config` build the configs of a call from the fields' values.
"""

from __future__ import annotations

import difflib
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from pydantic_core import PydanticUndefined

from nad_agents.exceptions import ConfigurationError
from nad_agents.types import NADConfig, SamplingConfig, VerificationConfig
from nad_agents.verification import Verifier

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from nad_agents.decoder import NeuronAgreementDecoder

__all__ = [
    "ALIASES",
    "CALL_FIELDS",
    "NAD_FIELDS",
    "SAMPLING_FIELDS",
    "Settings",
    "check_names",
    "configuration_error",
    "field_value",
    "fields_of_decoder",
    "fields_section",
    "nad_config",
    "option",
    "sampling_config",
]


SAMPLING_FIELDS = {"max_tokens" if name == "max_new_tokens" else name: name for name in SamplingConfig.model_fields}
"""Maps a model's field to the field of SamplingConfig that it sets."""

NAD_FIELDS = tuple(NADConfig.model_fields)
"""Fields of NADConfig, which a model has by the same names."""

ALIASES = {"model": "model_name", "max_new_tokens": "max_tokens", "stop_sequences": "stop"}
"""Maps other names that a model and its calls accept, known from transformers and other integrations, to the field."""

CALL_FIELDS = {*SAMPLING_FIELDS, *NAD_FIELDS, "timeout", "include_candidates", "model_name"}
"""Fields that a single call may override."""


def option(field: str, *, note: str = "", **changes: Any) -> Any:
    """Declare a model's field whose description and default are those of a config's field.

    The bounds stay with the config as well: it is built, and so checked, when a model is made and for every call.

    Args:
        field: Name of the model's field, one of SAMPLING_FIELDS or NAD_FIELDS.
        note: What differs from the config's field, to follow its description; ``{default}`` stands for its default.
        **changes: Arguments of pydantic's `Field` that replace the config's, such as `default`.
    """
    config: type[BaseModel] = SamplingConfig if field in SAMPLING_FIELDS else NADConfig
    source = config.model_fields[SAMPLING_FIELDS.get(field, field)]
    if not changes.keys() & {"default", "default_factory"}:
        name = "default" if source.default_factory is None else "default_factory"
        changes[name] = getattr(source, name)
    difference = note.format(default=source.default)
    return Field(description=f"{source.description} {difference}".rstrip(), **changes)


@dataclass(frozen=True)
class Settings:
    """The settings of one call.

    Attributes:
        model: The model to run; None for the decoder that the model was given.
        sampling: How candidates are sampled.
        config: Options for recording and comparing.
        timeout: Seconds until generation is stopped; None sets no limit.
        include_candidates: Whether the evidence holds the candidates' texts and the similarity matrix.
        verifier: Judges the answers in rank order; None trusts the ranking.
        verification: How candidates are checked in rank order; None leaves it to the decoder.
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
        raise _with_names_of_the_model(error) from error


def nad_config(values: Mapping[str, Any], base: NADConfig, *, compare: bool) -> NADConfig:
    """Build the selection options of a call.

    Args:
        values: Fields of NADConfig by name; they win over `base`.
        base: Options of the decoder, options that were passed to the model in one object, or the defaults.
        compare: False for a single candidate, which takes the selector "first" and no recording unless `values`
            names a selector.

    Raises:
        ConfigurationError: A value is out of bounds.
    """
    given = {name: getattr(base, name) for name in NADConfig.model_fields}
    given |= {name: values[name] for name in NAD_FIELDS if name in values}
    if given["selector"] is None:
        given["selector"] = base.selector
    if not compare and values.get("selector") is None:
        given |= {"selector": "first", "selector_options": {}, "record": False, "pruning": "never"}
    try:
        return NADConfig(**given)
    except ConfigurationError as error:
        raise _with_names_of_the_model(error) from error


def _with_names_of_the_model(error: ConfigurationError) -> ConfigurationError:
    """Return an error of SamplingConfig or NADConfig with the fields named as in the model."""
    assert isinstance(error.__cause__, ValidationError)
    names = {name: field for field, name in SAMPLING_FIELDS.items()}
    found = [
        # a validator's own message is a whole sentence
        str(problem["ctx"]["error"])
        if problem["type"] == "value_error"
        else _describe(problem, ".".join(names.get(str(part), str(part)) for part in problem["loc"]))
        for problem in error.__cause__.errors()
    ]
    return ConfigurationError("; ".join(found))


def fields_of_decoder(decoder: NeuronAgreementDecoder, *, with_config: bool) -> dict[str, Any]:
    """Return a decoder's options as values for the fields that a model leaves out.

    n and selector are not among them: they stay None, since their defaults depend on one another and on the
    temperature of a call.

    Args:
        decoder: The decoder that a model was given.
        with_config: Whether the fields of NADConfig are wanted as well.
    """
    found = {field: getattr(decoder.sampling, name) for field, name in SAMPLING_FIELDS.items()}
    found |= {"stop": list(decoder.sampling.stop)}
    if with_config:
        found |= {name: getattr(decoder.config, name) for name in NAD_FIELDS}
    found |= {"verifier": decoder.verifier, "verification": decoder.verification}
    return {field: value for field, value in found.items() if field not in {"n", "selector"}}


def field_value(model: type[BaseModel], name: str, value: Any) -> Any:
    """Return a call's value for a model's field, checked and converted as the model's constructor does.

    Args:
        model: The model's class.
        name: Name of the field.
        value: The value of the call.

    Raises:
        ConfigurationError: The field does not accept the value.
    """
    field = model.model_fields[name]
    try:
        kind: Any = Annotated[(field.annotation, *field.metadata, None)]
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        raise ConfigurationError("; ".join(_describe(problem, name) for problem in error.errors())) from error


def check_names(given: Iterable[str], known: Iterable[str], where: str) -> None:
    """Refuse unknown parameters.

    Args:
        given: The names to check.
        known: The names of the parameters that exist.
        where: The model or call that gets the parameters, for the message.

    Raises:
        ConfigurationError: Names the first unknown parameter and the nearest known one.
    """
    names = sorted(known)
    for name in given:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(names)}"
            msg = f"{where} has no parameter {name!r}; {hint}"
            raise ConfigurationError(msg)


def configuration_error(error: ValidationError, where: str) -> ConfigurationError:
    """Turn pydantic's error into a ConfigurationError of one line: which parameter, which value, and why.

    Args:
        error: Pydantic's error.
        where: Name of the class that was to be made.
    """
    found = []
    for problem in error.errors():
        cause = problem.get("ctx", {}).get("error")
        name = ".".join(str(part) for part in problem["loc"]) or where
        found.append(str(cause) if isinstance(cause, ConfigurationError) else _describe(problem, name))
    return ConfigurationError(f"{where}: {'; '.join(found)}")


def _describe(problem: ErrorDetails, name: str) -> str:
    return f"{name}={problem['input']!r}: {problem['msg'][0].lower()}{problem['msg'][1:]}"


def fields_section(model: type[BaseModel], names: Iterable[str]) -> str:
    """Return the "Args:" section of a model's docstring, made of its fields' descriptions and defaults.

    Args:
        model: The model's class.
        names: The fields in the order of the section.
    """
    lines = ["Args:"]
    for name in names:
        field = model.model_fields[name]
        default = "" if field.default in (None, PydanticUndefined) else f" Defaults to {field.default!r}."
        text = f"{field.alias or name}: {field.description}{default}"
        lines.append(textwrap.fill(text, 100, initial_indent=" " * 4, subsequent_indent=" " * 8))
    return "\n".join(lines)
