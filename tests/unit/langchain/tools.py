"""Tools and a schema that chat models are given."""

from typing import Annotated

from langchain_core.tools import tool
from typing_extensions import TypedDict


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@tool
def now() -> str:
    """Tell the time."""
    return "noon"


class PersonDict(TypedDict):
    """A person."""

    name: Annotated[str, ..., "the name"]
    age: Annotated[int, ..., "in years"]
