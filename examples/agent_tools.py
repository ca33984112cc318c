"""An agent whose every step is chosen among N candidates, with tools that really run.

    python examples/agent_tools.py [--model ID] [--n 4] [--seed 0] [QUESTION]

The calls of a step are compared: candidates that would do the same are one group, and the group whose neurons agree
most acts. The first step is made to call a tool, since very small models answer from memory when they may choose;
leave `CallFirst` out with a larger one.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_nad import NADChatModel, NADStepSelection
from rich.console import Console

QUESTION = "What is 17 times 23?"


@tool
def multiply(a: int, b: int) -> int:
    """Multiply two whole numbers."""
    return a * b


@tool
def add(a: int, b: int) -> int:
    """Add two whole numbers."""
    return a + b


class CallFirst(AgentMiddleware[Any, Any, Any]):
    """Forces a tool call in the first step, and an answer in words once there is a result."""

    def wrap_model_call(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        """Set the tool choice by what has happened so far."""
        has_result = any(isinstance(message, ToolMessage) for message in request.messages)
        return handler(request.override(tool_choice="none" if has_result else "any"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("question", nargs="?", default=QUESTION)
    parser.add_argument("--model", default="HuggingFaceTB/SmolLM2-135M-Instruct", help="hub id, folder or GGUF file")
    parser.add_argument("--n", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    console = Console()

    # 1. the model and its agent
    chat = NADChatModel(model=args.model, n=args.n, max_tokens=64, temperature=0.7, seed=args.seed)
    agent = create_agent(chat, [multiply, add], middleware=[CallFirst(), NADStepSelection()])

    # 2. run it
    messages = agent.invoke({"messages": [HumanMessage(args.question)]})["messages"]

    # 3. what it did, and what else was on the table
    for message in messages:
        console.print(f"[bold]{message.type}[/bold]", end=" ")
        console.print(message.text or [f"{c['name']}({c['args']})" for c in getattr(message, "tool_calls", [])])
        if isinstance(message, AIMessage):
            for step in message.response_metadata["nad"].get("steps", ()):
                does = [f"{c['name']}({c['args']})" for c in step["calls"]] or "an answer in words"
                console.print(f"[dim]  candidates {step['candidates']} ({step['agreement']:.2f}): {does}[/dim]")


if __name__ == "__main__":
    main()
