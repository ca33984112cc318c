"""`nad select`: choose again from a recorded run, with any selector and any comparison, without a model."""

from __future__ import annotations

import json
import math
import re
import time
from typing import Annotated, Any

import typer
from rich.console import Console

from nad_agents.cli.options import NAD, REPEATABLE, RunArgument, SimilarityOption, json_or_text, option
from nad_agents.exceptions import ConfigurationError
from nad_agents.types import NADConfig

__all__ = ["select"]

SelectorOption = Annotated[str, typer.Option("--selector", "-s", help="Name of a selector.")]
SelectorParameterOption = Annotated[
    list[str] | None, typer.Option("--option", help=f"An option of the selector, such as k=5. {REPEATABLE}")
]
TopKNeuronsOption = Annotated[
    int | None,
    option(NADConfig, "top_k_neurons", text="Compare only so many of a token's recorded neurons; default: all."),
]
CompareChunksOption = Annotated[int | None, option(NADConfig, "compare_chunks", note="Default: all of them.")]
ChunkSizeOption = Annotated[int, option(NADConfig, "chunk_size")]
SkipTokensOption = Annotated[int, option(NADConfig, "skip_tokens")]
CommonPrefixOption = Annotated[bool, option(NADConfig, "common_prefix", "--common-prefix")]
LayersOption = Annotated[str | None, typer.Option(help="Compare only these layers, such as 8:16.")]
JSONLinesOption = Annotated[bool, typer.Option("--json", help="Print one line of JSON per problem, and nothing else.")]


def select(
    run: RunArgument,
    selector: SelectorOption = "auto",
    parameters: SelectorParameterOption = None,
    similarity: SimilarityOption = NAD.similarity,
    top_k_neurons: TopKNeuronsOption = None,
    compare_chunks: CompareChunksOption = NAD.compare_chunks,
    chunk_size: ChunkSizeOption = NAD.chunk_size,
    skip_tokens: SkipTokensOption = NAD.skip_tokens,
    common_prefix: CommonPrefixOption = NAD.common_prefix,
    layers: LayersOption = None,
    as_json: JSONLinesOption = False,
) -> None:
    """Choose again from a recorded run with any selector and any comparison, without loading a model."""
    from nad_agents.evaluation.verdicts import read_verdicts
    from nad_agents.neurons.comparison import ComparisonConfig
    from nad_agents.runs import RecordedRun
    from nad_agents.selectors import get_selector, rank

    # 1. what cannot work is refused before anything is read
    comparison: dict[str, Any] = {"similarity": similarity, "top_k_neurons": top_k_neurons}
    comparison |= {"compare_chunks": compare_chunks, "chunk_size": chunk_size}
    comparison |= {"skip_tokens": skip_tokens, "common_prefix": common_prefix, "layers": _parse_layers(layers)}
    chosen = get_selector(selector, comparison=ComparisonConfig(**comparison), **_parse_parameters(parameters or []))
    recorded = RecordedRun(run)
    width = recorded.manifest.config.get("top_k_neurons")
    if top_k_neurons is not None and width is not None and top_k_neurons > width:
        msg = (
            f"{width} neurons per token are recorded, fewer than top_k_neurons={top_k_neurons}; lower it, or record "
            "the run with more"
        )
        raise ConfigurationError(msg)
    # 2. the selections
    verdicts = read_verdicts(recorded.folder)
    picks, averages, seconds = [], [], []
    for problem in recorded.problems:
        group = recorded.group(problem, neurons=chosen.needs_neurons)
        started = time.perf_counter()
        scores = chosen.score(group)
        ranking = rank(scores, group)
        seconds.append(time.perf_counter() - started)
        verdict = verdicts.get(problem)
        if verdict is not None:
            picks.append(verdict.correct[ranking[0]])
            averages.append(sum(verdict.correct) / len(verdict.correct))
        if as_json:
            line = {
                "problem": problem,
                "pick": ranking[0],
                "ranking": ranking,
                "scores": [None if math.isnan(value) else float(value) for value in scores.values],
                "correct": None if verdict is None else verdict.correct[ranking[0]],
            }
            typer.echo(json.dumps(line))
    # 3. how good they are
    if not as_json:
        console = Console()
        mean_time = f"{1000 * sum(seconds) / max(len(seconds), 1):.1f} ms a problem"
        console.print(f"{chosen.name}: {len(recorded)} problems, {mean_time}", highlight=False)
        accuracy = _accuracy(picks, averages) if picks else f"not scored yet; `nad report {run}` scores it"
        console.print(accuracy, highlight=False, markup=not picks, soft_wrap=True)


def _accuracy(picks: list[bool], averages: list[float]) -> str:
    """Return one line about the accuracy of picks beside that of picking at random.

    Args:
        picks: Whether the pick is correct, by problem.
        averages: The share of correct candidates, by problem.
    """
    import numpy as np

    from nad_agents.evaluation.statistics import Resampling
    from nad_agents.evaluation.tables import percent

    correct, average = np.array(picks, dtype=np.float64), np.array(averages)
    sample = Resampling(len(correct))
    gain = percent(sample.mean(correct - average), signed=True)
    figures = f"{percent(sample.mean(correct))}% correct, random {percent(sample.mean(average))}%, gain {gain}"
    return f"{figures} (n={len(correct)}, 95% intervals)"


def _parse_layers(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d+):(\d+)", text)
    if match is None:
        msg = f"layers={text!r} is not a range; give first:end, such as 8:16"
        raise ConfigurationError(msg)
    return int(match[1]), int(match[2])


def _parse_parameters(pairs: list[str]) -> dict[str, Any]:
    """Return a selector's options, given as name=value; a value is read as JSON if it is JSON."""
    parameters: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.isidentifier():
            msg = f"option {pair!r} is not name=value, such as k=5"
            raise ConfigurationError(msg)
        parameters[name] = json_or_text(value)
    return parameters
