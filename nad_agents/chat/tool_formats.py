"""How each family of models writes tool calls."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["FORMATS", "ToolFormat", "find_format"]


FormatName = Literal["hermes", "llama3", "mistral", "generic"]


@dataclass(frozen=True)
class ToolFormat:
    """How a family writes a call.

    Attributes:
        name: of the family.
        begin: what comes before a call.
        end: what comes after it.
        arguments: key of the arguments.
        opening: what comes before all calls.
        closing: what comes after all of them.
        separator: between two calls.
        in_template: whether the model's chat template describes tools; otherwise the system message has to.
    """

    name: FormatName
    begin: str = ""
    end: str = ""
    arguments: str = "arguments"
    opening: str = ""
    closing: str = ""
    separator: str = "\n"
    in_template: bool = True

    def write(self, name: str, arguments: Any) -> str:
        """A call as the model would write it."""
        body = json.dumps({"name": name, self.arguments: arguments}, ensure_ascii=False)
        return f"{self.begin}{body}{self.end}"


FORMATS: dict[FormatName, ToolFormat] = {
    "hermes": ToolFormat("hermes", begin="<tool_call>\n", end="\n</tool_call>"),
    "llama3": ToolFormat("llama3", arguments="parameters", separator="; "),
    "mistral": ToolFormat("mistral", opening="[TOOL_CALLS][", closing="]", separator=", "),
    "generic": ToolFormat("generic", in_template=False),
}


def find_format(template: str | None) -> ToolFormat:
    """The format that a chat template describes, found by what it says; "generic" when it knows no tools.

    hermes: Qwen 2.5 and 3, Hermes, SmolLM3; llama3: Llama 3.1 and later; mistral: Mistral and Mixtral.
    """
    if template is None or "tools" not in template:
        return FORMATS["generic"]
    if "<tool_call>" in template and "<function=" not in template:
        return FORMATS["hermes"]
    if "[TOOL_CALLS]" in template and "[ARGS]" not in template:
        return FORMATS["mistral"]
    if '"parameters"' in template and "<|start_header_id|>" in template:
        return FORMATS["llama3"]
    return FORMATS["generic"]
