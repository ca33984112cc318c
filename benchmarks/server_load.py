"""Measure `nad serve` under load: throughput, time to first token, lost requests, and memory over many requests.

python benchmarks/server_load.py                       # starts a server with the default model
python benchmarks/server_load.py --url http://host:8000 --model name --no-memory
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import psutil

PROMPTS = (
    "Name a fruit.",
    "What is two plus three?",
    "Write a haiku about rain.",
    "Sort 3, 1, 2.",
    "Greet me in French.",
)


@dataclass(frozen=True)
class CompletedRequest:
    first_token: float
    seconds: float
    tokens: int


@contextmanager
def server(n: int) -> Iterator[tuple[str, psutil.Process]]:
    command = [Path(sys.executable).with_name("nad"), "serve", "--port", "0", "--n", str(n)]
    environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    with tempfile.NamedTemporaryFile("w", suffix=".log", encoding="utf-8") as file:
        log = Path(file.name)
        process = subprocess.Popen(command, stderr=file, stdout=subprocess.DEVNULL, env=environment)
        try:
            while not (found := re.search(r"running on (http://[\d.:]+)", log.read_text(encoding="utf-8"))):
                if process.poll() is not None:
                    sys.exit(log.read_text(encoding="utf-8"))
                time.sleep(0.1)
            yield found[1], psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait()


async def stream_request(client: httpx.AsyncClient, model: str, number: int, tokens: int) -> CompletedRequest | None:
    """Send a streaming request; returns None if it is lost, which means anything but a complete stream."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": PROMPTS[number % len(PROMPTS)]}],
        "max_tokens": tokens,
        "seed": number,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    started, first, usage, done = time.perf_counter(), 0.0, 0, False
    try:
        async with client.stream("POST", "/v1/chat/completions", json=body) as stream:
            async for line in stream.aiter_lines():
                if line == "data: [DONE]":
                    done = True
                elif line.startswith("data: "):
                    chunk = json.loads(line.removeprefix("data: "))
                    if "error" in chunk:
                        return None
                    if not first and any(choice["delta"].get("content") for choice in chunk["choices"]):
                        first = time.perf_counter() - started
                    usage = (chunk.get("usage") or {}).get("completion_tokens", usage)
    except httpx.HTTPError:
        return None
    return CompletedRequest(first, time.perf_counter() - started, usage) if done else None


async def load(
    url: str, model: str, clients: int, requests: int, tokens: int
) -> tuple[list[CompletedRequest], int, float]:
    """Run a number of clients, each of which sends one request after another."""
    async with httpx.AsyncClient(base_url=url, timeout=600, limits=httpx.Limits(max_connections=clients)) as http:
        numbers = iter(range(requests))
        found: list[CompletedRequest | None] = []

        async def client() -> None:
            for number in numbers:
                found.append(await stream_request(http, model, number, tokens))  # noqa: PERF401 - shared by the clients

        started = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(clients)))
        seconds = time.perf_counter() - started
    answered = [one for one in found if one is not None]
    return answered, len(found) - len(answered), seconds


def table(url: str, model: str, requests: int, tokens: int) -> None:
    print(f"\n{requests} requests of at most {tokens} tokens, streamed\n")
    print(
        "| clients | requests/s | against 1 | tokens/s of winners | first token p50 | p95 | whole answer p50 | lost |"
    )
    print("|---|---|---|---|---|---|---|---|")
    base = 0.0
    for clients in (1, 4, 16):
        answered, lost, seconds = asyncio.run(load(url, model, clients, requests, tokens))
        rate = len(answered) / seconds
        base = base or rate
        first = [one.first_token for one in answered if one.first_token]
        print(
            f"| {clients} | {rate:.2f} | {rate / base:.2f}x | {sum(one.tokens for one in answered) / seconds:.1f} "
            f"| {np.percentile(first, 50):.2f} s | {np.percentile(first, 95):.2f} s "
            f"| {np.median([one.seconds for one in answered]):.2f} s | {lost} |",
            flush=True,
        )


def memory(url: str, model: str, process: psutil.Process, requests: int) -> None:
    print("\n| requests served | resident memory | lost |\n|---|---|---|")
    lost_so_far, step = 0, max(1, requests // 5)
    for served in range(step, requests + 1, step):
        _, lost, _ = asyncio.run(load(url, model, 4, step, 8))
        lost_so_far += lost
        print(f"| {served} | {process.memory_info().rss / 2**20:.0f} MiB | {lost_so_far} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="a server that runs already")
    parser.add_argument("--model", default="HuggingFaceTB/SmolLM2-135M-Instruct")
    parser.add_argument("--n", type=int, default=4)
    parser.add_argument("--requests", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--memory-requests", type=int, default=500)
    parser.add_argument("--no-memory", action="store_true")
    options = parser.parse_args()
    if options.url:
        table(options.url, options.model, options.requests, options.tokens)
        return
    with server(options.n) as (url, process):
        print(f"{options.model}, n={options.n}, {os.cpu_count()} CPU cores")
        table(url, options.model, options.requests, options.tokens)
        if not options.no_memory:
            memory(url, options.model, process, options.memory_requests)


if __name__ == "__main__":
    main()
