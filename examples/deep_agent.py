"""A deep agent that writes a program, runs it in a sandbox, reads what went wrong, and mends it.

    python examples/deep_agent.py [--model ID] [--n 4] [--seed 0] [TASK]

The agent's tools for files and commands work in one sandbox session: its files persist from step to step, and are gone
with it. Any chat model of LangChain that calls tools will do. Very small models mostly answer in words; try
`--model Qwen/Qwen2.5-Coder-7B-Instruct` on a GPU.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from deepagents import create_deep_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_nad import NADChatModel, NADSandbox
from nad_sandbox import SandboxSession, auto_sandbox
from rich.console import Console

TASK = (
    "Write a Python module roman.py with a function to_roman(n), and a file test_roman.py with asserts for 4, 9, 14, "
    "40 and 1994. Run the tests, and mend the module until they pass."
)


def work(chat: BaseChatModel, session: SandboxSession, task: str, steps: int = 40) -> Iterator[BaseMessage]:
    """Yield the agent's messages as they come."""
    backend = NADSandbox(session)
    agent = create_deep_agent(chat, backend=backend.agent_backend, system_prompt=backend.system_prompt)
    seen = 0
    config = {"recursion_limit": steps}
    for state in agent.stream({"messages": [("user", task)]}, config, stream_mode="values"):
        yield from state["messages"][seen:]
        seen = len(state["messages"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", nargs="?", default=TASK)
    parser.add_argument("--model", default="HuggingFaceTB/SmolLM2-135M-Instruct", help="hub id, folder or GGUF file")
    parser.add_argument("--n", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    console = Console()

    # 1. a model, and a sandbox for its agent
    chat = NADChatModel(model=args.model, n=args.n, max_tokens=args.tokens, temperature=0.7, seed=args.seed)
    with auto_sandbox(prestart=0) as sandbox, sandbox.open_session() as session:
        # 2. what it does
        for message in work(chat, session, args.task):
            console.print(f"[bold]{message.type}[/bold]", end=" ")
            console.print(message.text or [f"{c['name']}({c['args']})" for c in getattr(message, "tool_calls", [])])

        # 3. what it leaves
        console.print("[bold]files[/bold]", session.execute("ls -1").stdout.split())


if __name__ == "__main__":
    main()
