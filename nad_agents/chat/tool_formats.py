"""How each family of models writes tool calls, found by the text of its chat template."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["CALL_MARKERS", "CALL_MARKS", "CALL_TAG", "FORMATS", "ToolFormat", "find_format"]

CALL_TAG = "<tool_call>"
"""Tag that Qwen, Hermes and SmolLM3 write before each call."""

CALL_MARKERS = ("[TOOL_CALLS]", "<|python_tag|>")
"""Marks that Mistral and Llama write before their calls."""

CALL_MARKS = (CALL_TAG, "</tool_call>", *CALL_MARKERS)
"""Texts by which families mark calls, some of which are special tokens."""

FormatName = Literal["hermes", "llama3", "mistral", "generic"]


@dataclass(frozen=True)
class ToolFormat:
    """How a family of models writes tool calls.

    Attributes:
        name: Name of the format.
        begin: Text before each call.
        end: Text after each call.
        arguments: Key of the arguments in the call's JSON.
        opening: Text before the first call.
        closing: Text after the last call.
        separator: Text between two calls.
        in_template: Whether the model's chat template describes tools; otherwise the system message has to.
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
        """Return a call as the model would write it.

        Args:
            name: Name of the tool.
            arguments: The arguments as an object.
        """
        body = json.dumps({"name": name, self.arguments: arguments}, ensure_ascii=False)
        return f"{self.begin}{body}{self.end}"


FORMATS: dict[FormatName, ToolFormat] = {
    "hermes": ToolFormat("hermes", begin="<tool_call>\n", end="\n</tool_call>"),
    "llama3": ToolFormat("llama3", arguments="parameters", separator="; "),
    "mistral": ToolFormat("mistral", opening="[TOOL_CALLS][", closing="]", separator=", "),
    "generic": ToolFormat("generic", in_template=False),
}


def find_format(template: str | None) -> ToolFormat:
    """Return the format that a chat template describes; "generic" where it knows no tools or an unknown format.

    "hermes" is that of Qwen 2.5 and 3, Hermes and SmolLM3, "llama3" of Llama 3.1 and later, "mistral" of Mistral and
    Mixtral.

    Args:
        template: Source of the chat template; None for a model without one.
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
