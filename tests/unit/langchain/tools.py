"""Tools and a schema that chat models are given."""

from typing import Annotated

from langchain_core.tools import tool
from typing_extensions import TypedDict

from nad_agents.testing import byte_tokenizer


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


def hermes_tokenizer():
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = (
        "{% if tools %}<tools>{% for t in tools %}{{ t | tojson }}{% endfor %}</tools> in <tool_call>{% endif %}"
        "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% for c in m.tool_calls or [] %}"
        "<tool_call>{{ c.function.arguments.a }}</tool_call>{% endfor %}{% endfor %}"
    )
    return tokenizer
