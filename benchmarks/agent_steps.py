"""Record steps of coding agents, and count those that can be carried out, chosen against random; prints tables.

    python benchmarks/agent_steps.py STEPS.jsonl --model MODEL [--dtype int8] [--n 8] [--max-new-tokens 256]
    python benchmarks/agent_steps.py STEPS.jsonl

Every conversation ends where the agent has read a file and has to change it (`agent_conversations.py`). The steps are
carried out on the file as the agents do it. An interrupted recording goes on where it was; without a model, the steps
that are there are measured. Intervals are 95% bootstrap intervals over conversations.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from agent_conversations import Conversation, EditError, changed_file, conversations
from numpy.typing import NDArray

from nad_agents.chat.edit_steps import last_look
from nad_agents.chat.output_spec import OutputSpec
from nad_agents.chat.prepare import prepare
from nad_agents.chat.response_parser import ToolCallParser
from nad_agents.chat.shown_text import shown_text
from nad_agents.chat.step_selector import StepSelector
from nad_agents.chat.tools import argument_schemas
from nad_agents.decoder import NeuronAgreementDecoder
from nad_agents.evaluation.statistics import Estimate, Resampling
from nad_agents.evaluation.tables import percent, to_markdown
from nad_agents.rollouts import NeuronLayout, Rollout, RolloutGroup
from nad_agents.selectors import NADFusion, Scores, Selector, rank
from nad_agents.selectors.base import SelectorBase
from nad_agents.types import NADConfig, SamplingConfig


def record(path: Path, decoder: NeuronAgreementDecoder, sampling: SamplingConfig, limit: int | None) -> None:
    """Append the candidates of every conversation that is missing in the file, with their rank by `nad_fusion`."""
    done = {line["conversation"] for line in read(path)}
    for conversation in islice(conversations(), limit):
        if conversation.name in done:
            continue
        spec = OutputSpec(tools=conversation.tools)
        messages = [dict(message) for message in conversation.messages]
        chat = prepare(decoder, messages, spec, max_new_tokens=sampling.max_new_tokens, verifier=None)
        group = decoder.sample(
            chat.prompt,
            sampling=sampling,
            config=NADConfig(selector="first"),
            tools=chat.tools,
            visible_tokens=chat.visible_tokens,
        )
        line = {
            "conversation": conversation.name,
            "texts": [rollout.text for rollout in group.rollouts],
            "tokens": [len(rollout) for rollout in group.rollouts],
            "ranking": rank(NADFusion().score(group), group),
            "marked": bool(getattr(chat.parser, "marked", False)),
        }
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        print(conversation.name, line["tokens"], flush=True)


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


@dataclass(frozen=True)
class KnownRanking(SelectorBase):
    """Ranks candidates as they were ranked when they were recorded."""

    ranking: tuple[int, ...] = ()

    def score(self, group: RolloutGroup) -> Scores:
        del group
        return Scores(-np.argsort(self.ranking).astype(np.float64))


@dataclass(frozen=True)
class Measured:
    """What came of the steps of one conversation.

    Attributes:
        changes: Float64 [N], 1 where a step changes the file as asked for, 0 elsewhere.
        fails: Float64 [N], 1 where a step cannot be carried out.
        by_rank: The candidate that `nad_fusion` ranks first.
        by_step: The candidate that comes first when steps are compared.
    """

    changes: NDArray[np.float64]
    fails: NDArray[np.float64]
    by_rank: int
    by_step: int


def measure(conversation: Conversation, recorded: dict[str, Any]) -> Measured:
    """Carry out every step of a conversation, and select among them."""
    texts, schemas = recorded["texts"], argument_schemas(conversation.tools)
    parser = ToolCallParser(
        names=tuple(tool["function"]["name"] for tool in conversation.tools),
        schemas=schemas,
        marked=recorded["marked"],
    )
    changes, fails = np.zeros(len(texts)), np.zeros(len(texts))
    for i, text in enumerate(texts):
        parsed = parser.parse(text)
        calls = [(call.name, call.arguments) for call in parsed.calls]
        try:
            changes[i] = not parsed.invalid and changed_file(conversation, parsed.content, calls) is not None
            fails[i] = bool(parsed.invalid)
        except EditError:
            fails[i] = 1
    one = np.zeros(1, dtype=np.float32)
    rollouts = [
        Rollout(i, np.zeros(1, dtype=np.int64), text, np.zeros((1, 1), dtype=np.int32), one, one, one, one, "stop")
        for i, text in enumerate(texts)
    ]
    group = RolloutGroup(rollouts, NeuronLayout(n_layers=1, d_ff=1))
    inner: Selector = KnownRanking(ranking=tuple(recorded["ranking"]))
    messages = conversation.messages
    steps = StepSelector(inner, parser, shown_text(messages), schemas, last_look(messages))
    return Measured(changes, fails, recorded["ranking"][0], rank(steps.score(group), group)[0])


def table(found: Sequence[Measured]) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """Return the shares of steps that change the file and of those that fail, at random and as chosen."""
    sample = Resampling(len(found))

    def row(label: str, changes: Sequence[float], fails: Sequence[float]) -> tuple[str, ...]:
        shares: list[Estimate] = [sample.mean(np.array(values)) for values in (changes, fails)]
        gains = (
            sample.mean(np.array(values) - np.array([getattr(m, name).mean() for m in found]))
            for name, values in (("changes", changes), ("fails", fails))
        )
        cells = zip(shares, gains, strict=True)
        return (label, *(cell for share, gain in cells for cell in (percent(share), percent(gain, signed=True))))

    head = ("step", "changes the file, %", "against random", "cannot be carried out, %", "against random")
    return head, [
        row("random", [m.changes.mean() for m in found], [m.fails.mean() for m in found]),
        row("nad_fusion", [m.changes[m.by_rank] for m in found], [m.fails[m.by_rank] for m in found]),
        row("steps compared", [m.changes[m.by_step] for m in found], [m.fails[m.by_step] for m in found]),
        row("any of them", [m.changes.max() for m in found], [m.fails.min() for m in found]),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("steps", type=Path, help="file of the recorded steps")
    parser.add_argument("--model", help="the model that takes the steps; none measures what is recorded")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--n", type=int, default=8)
    parser.add_argument("--max-new-tokens", type=int, default=256)
    parser.add_argument("--limit", type=int, help="record the first so many conversations only; the agents take turns")
    options = parser.parse_args()
    if options.model:
        decoder = NeuronAgreementDecoder(options.model, dtype=options.dtype, prefix_cache_mb=0)
        sampling = SamplingConfig(n=options.n, max_new_tokens=options.max_new_tokens, seed=0)
        record(options.steps, decoder, sampling, options.limit)
    known = {conversation.name: conversation for conversation in conversations()}
    lines = read(options.steps)
    found = [measure(known[line["conversation"]], line) for line in lines]
    print(f"{len(found)} conversations, {len(lines[0]['texts'])} steps each\n")
    print(to_markdown(table(found)), end="\n\n")
    by_agent: dict[str, list[Measured]] = {}
    for line, one in zip(lines, found, strict=True):
        by_agent.setdefault(line["conversation"].partition(",")[0], []).append(one)
    rows = []
    for agent, mine in by_agent.items():
        shares = (
            [m.changes.mean() for m in mine],
            [m.changes[m.by_step] for m in mine],
            [m.changes.max() for m in mine],
        )
        rows.append((agent, str(len(mine)), *(f"{100 * share:.0f}" for share in np.mean(shares, axis=1))))
    print(to_markdown((("agent", "conversations", "random, %", "steps compared, %", "any, %"), rows)))


if __name__ == "__main__":
    main()
