"""`FrozenModel`, whose errors say on one line what is wrong."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from nad_agents.exceptions import ConfigurationError

__all__ = ["FrozenModel"]


class FrozenModel(BaseModel):
    """A model that does not change, knows all its fields, and raises `ConfigurationError` for wrong values."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    if not TYPE_CHECKING:  # a typed __init__ would hide the fields' own signature

        def __init__(self, **data: Any) -> None:
            try:
                super().__init__(**data)
            except ValidationError as error:
                raise ConfigurationError(_one_line(error, type(self))) from error


def _one_line(error: ValidationError, model: type[BaseModel]) -> str:
    """Return on one line what is wrong and with which value; for an unknown name, the nearest known one."""
    found = []
    for problem in error.errors():
        name = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            near = difflib.get_close_matches(name, model.model_fields, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(model.model_fields)}"
            found.append(f"unknown parameter {name!r}{hint}")
        elif problem["type"] == "value_error":
            found.append(str(problem["ctx"]["error"]))
        else:
            message = problem["msg"][0].lower() + problem["msg"][1:]
            found.append(f"{name}={problem['input']!r}: {message}")
    return "; ".join(found)
