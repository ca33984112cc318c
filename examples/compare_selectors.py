"""Sample one prompt once, and let every selector choose: what each picks, and how long choosing takes.

    python examples/compare_selectors.py [--n 8] [--tokens 120] [--seed 0] [PROMPT]

Nothing is generated twice: selectors rank rollouts, and a rollout keeps everything that they read.
"""

from __future__ import annotations

import argparse
import time

from rich.console import Console
from rich.table import Table

from nad_agents import ConfigurationError, NeuronAgreementDecoder, SamplingConfig, available_selectors
from nad_agents.neurons.comparison import ComparisonConfig
from nad_agents.selectors import get_selector, rank

PROMPT = "Write a Python function that returns the n-th Fibonacci number."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("prompt", nargs="?", default=PROMPT)
    parser.add_argument("--model", default=None, help="hub id, local folder or GGUF file")
    parser.add_argument("--n", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=120)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    # 1. sample once
    decoder = NeuronAgreementDecoder(args.model) if args.model else NeuronAgreementDecoder()
    sampling = SamplingConfig(n=args.n, max_new_tokens=args.tokens, seed=args.seed)
    group = decoder.sample(args.prompt, sampling=sampling)

    # 2. let every selector rank the same rollouts
    table = Table(title=f"{args.n} candidates of {decoder.loaded.name}")
    table.add_column("selector", min_width=17)
    table.add_column("ranking", min_width=len(" ".join(map(str, range(args.n)))))
    table.add_column("ms", justify="right", min_width=6)
    table.add_column("its choice begins with", no_wrap=True)
    for name in available_selectors():
        try:
            selector = get_selector(name, comparison=ComparisonConfig())
        except ConfigurationError:  # it runs programs or asks a model, and has to be told where
            continue
        started = time.perf_counter()
        ranking = rank(selector.score(group), group)
        milliseconds = (time.perf_counter() - started) * 1000
        choice = " ".join(group.rollouts[ranking[0]].text.split())[:50]
        table.add_row(name, " ".join(map(str, ranking)), f"{milliseconds:.1f}", choice)
    Console().print(table)


if __name__ == "__main__":
    main()
