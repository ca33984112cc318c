"""Derive optional fields of other models and options of the command line from the fields of the configs.

`nad_agents.types` declares each option once, with its type, bounds, default and description.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field, ValidationError

from nad_agents.exceptions import ConfigurationError
from nad_agents.types import DEFAULT_ROWS

__all__ = ["MAX_ROWS_DESCRIPTION", "bounds", "description", "option_error", "optional_field"]

MAX_ROWS_DESCRIPTION = (
    f"Most candidates that are generated at the same time; auto is {DEFAULT_ROWS}, and on a GPU as many as its memory "
    "holds."
)
"""Description of the option `max_rows`, which the server and the commands have and no config."""

_BOUNDS = ("gt", "ge", "lt", "le")


def description(config: type[BaseModel], name: str) -> str:
    """Return the description of an option for a place where the option may be left out.

    The last clause of a description says what None means in the config, as in "Token limit; None sets no limit." It is
    cut off, since None means there that the option was left out.

    Args:
        config: The model that declares the option.
        name: The name of the field.
    """
    text = config.model_fields[name].description
    assert text is not None, f"{config.__name__}.{name} has no description"
    return text.partition("; None ")[0].removesuffix(".") + "."


def bounds(config: type[BaseModel], name: str) -> dict[str, float]:
    """Return the bounds of a number under pydantic's names for them, such as ``{"ge": 0, "le": 1}``.

    Args:
        config: The model that declares the option.
        name: The name of the field.
    """
    limits = config.model_fields[name].metadata
    return {bound: getattr(limit, bound) for limit in limits for bound in _BOUNDS if hasattr(limit, bound)}


def optional_field(config: type[BaseModel], name: str, **changes: Any) -> Any:
    """Make a pydantic field with the description and the bounds of a config's field, and None as its default.

    Args:
        config: The model that declares the option.
        name: The name of the field.
        **changes: Arguments of `pydantic.Field` that replace or add to the config's, such as a stricter bound.
    """
    return Field(default=None, **{"description": description(config, name), **bounds(config, name), **changes})


def option_error(error: ValidationError) -> ConfigurationError:
    """Return an error that says in one line what is wrong with an option of the command line.

    Args:
        error: The error of a model whose fields have the names of options.
    """
    problem = error.errors()[0]
    # options that do not go together have no place
    place = f"--{problem['loc'][0]}: ".replace("_", "-") if problem["loc"] else ""
    return ConfigurationError(place + str(problem["msg"]).removeprefix("Value error, "))
