"""A LlamaIndex agent whose every step is the best of N candidates, with tools that really run.

    python examples/llama_index_agent.py [--model ID] [--n 4] [--seed 0] [QUESTION]

The first step is made to call a tool, since very small models answer from memory when they may choose; leave
`initial_tool_choice` out with a larger one.
"""

from __future__ import annotations

import argparse
import asyncio

from llama_index.core.agent.workflow import AgentOutput, FunctionAgent, ToolCallResult
from llama_index.llms.nad import NADLLM
from rich.console import Console

QUESTION = "What is 17 times 23?"


def multiply(a: int, b: int) -> int:
    """Multiply two whole numbers."""
    return a * b


async def run(args: argparse.Namespace, console: Console) -> None:
    """Let the agent work, and tell what it does as it does it."""
    # 1. the model and its agent
    llm = NADLLM(model=args.model, n=args.n, max_tokens=64, temperature=0.7, seed=args.seed)
    agent = FunctionAgent(tools=[multiply], llm=llm, initial_tool_choice="multiply", allow_parallel_tool_calls=False)

    # 2. its steps, and why each was chosen
    running = agent.run(args.question, max_iterations=4, early_stopping_method="generate")
    async for event in running.stream_events():
        if isinstance(event, ToolCallResult):
            console.print(f"{event.tool_name}({event.tool_kwargs}) = {event.tool_output.content}", markup=False)
        elif isinstance(event, AgentOutput) and event.raw:
            evidence = event.raw["nad"]
            console.print(f"[dim]candidate {evidence['winner']} of {evidence['n']}, by {evidence['selector']}[/]")

    # 3. the answer
    console.print(str(await running), markup=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("question", nargs="?", default=QUESTION)
    parser.add_argument("--model", default="HuggingFaceTB/SmolLM2-135M-Instruct", help="hub id, folder or GGUF file")
    parser.add_argument("--n", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    asyncio.run(run(args, Console()))


if __name__ == "__main__":
    main()
