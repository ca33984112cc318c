"""A LangChain chain whose answer is chosen among N candidates, shown as it streams, with the evidence for the choice.

    python examples/langchain_chain.py [--model ID] [--n 6] [--tokens 120] [--seed 0] [QUESTION]

With early stopping the weaker candidates are dropped after the first 32 tokens and the winner streams from there.
"""

from __future__ import annotations

import argparse
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.prompts import ChatPromptTemplate
from langchain_nad import PROGRESS_EVENT, NADChatModel
from rich.console import Console

QUESTION = "Why is the sky blue?"


class ShowProgress(BaseCallbackHandler):
    """Tells how the candidates grow until one is chosen."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def on_custom_event(self, name: str, data: Any, **_: Any) -> None:
        """Show one progress event."""
        if name == PROGRESS_EVENT and len(data["live"]) > 1:
            self.console.print(f"[dim]{len(data['live'])} candidates, {data['generated']} tokens[/dim]")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("question", nargs="?", default=QUESTION)
    parser.add_argument("--model", default="HuggingFaceTB/SmolLM2-135M-Instruct", help="hub id, folder or GGUF file")
    parser.add_argument("--n", type=int, default=6)
    parser.add_argument("--tokens", type=int, default=120)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    console = Console()

    # 1. a chain like any other
    prompt = ChatPromptTemplate.from_messages([("system", "Answer in two sentences."), ("human", "{question}")])
    chat = NADChatModel(
        model=args.model, n=args.n, max_tokens=args.tokens, seed=args.seed, selector="knn", pruning="first_chunk"
    )
    chain = prompt | chat

    # 2. stream the winner
    full = None
    for chunk in chain.stream({"question": args.question}, {"callbacks": [ShowProgress(console)]}):
        console.print(chunk.text, end="", markup=False, highlight=False)
        full = chunk if full is None else full + chunk
    assert full is not None
    console.print()

    # 3. why it was chosen, and what it cost
    evidence, usage = full.response_metadata["nad"], full.usage_metadata
    assert usage is not None
    console.rule("evidence")
    console.print(
        f"winner {evidence['winner']} of ranking {evidence['ranking']}, agreement {evidence['agreement']:.3f}"
    )
    console.print(f"{usage['output_tokens']} tokens generated, about {evidence['tokens_saved']} saved")


if __name__ == "__main__":
    main()
