"""`nad bench`: record candidates for the problems of a benchmark, score them, and compare the selectors."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from nad_agents.cli.display import loading, show_evidence
from nad_agents.cli.options import (
    DEFAULT_MODEL,
    NAD,
    SAMPLING,
    AdapterOption,
    DeviceOption,
    DtypeOption,
    EngineOption,
    EngineOptionsOption,
    MaxNewTokensOption,
    MaxRowsOption,
    ModelOption,
    NOption,
    NumCPUsOption,
    NumGPUsOption,
    RayAddressOption,
    RayOption,
    ReplicasOption,
    ScoreOption,
    SelectorsOption,
    TemperatureOption,
    TimeoutOption,
    TopKOption,
    TopPOption,
    URLOption,
    WorkersOption,
    check_ray_options,
    count_or_auto,
    engine_options,
    option,
)
from nad_agents.cli.report import parse_selectors, score_recorded
from nad_agents.exceptions import ConfigurationError
from nad_agents.ray_cluster import ReplicaOptions
from nad_agents.types import NADConfig, SamplingConfig, ScoreName

if TYPE_CHECKING:
    from nad_agents.evaluation.recording import ProblemRecorder
    from nad_agents.runs import ProblemRecord

__all__ = ["bench"]

TaskArgument = Annotated[
    str,
    typer.Argument(
        help="Benchmark: humaneval, mbpp, gsm8k, math500, aime24 or gpqa, which are fetched from the hub; "
        "hf://datasets/OWNER/NAME/FILE; or a file of problems as JSON lines, CSV or Parquet."
    ),
]
OutOption = Annotated[Path, typer.Option("--out", "-o", help="Folder of the run.")]
SeedOption = Annotated[
    int, option(SamplingConfig, "seed", text="Seed of the candidates' random streams and of the order of the problems.")
]
LimitOption = Annotated[
    int | None, typer.Option(min=1, help="Number of problems, drawn at random; default: all of them.")
]
JudgeOption = Annotated[
    bool, typer.Option("--judge/--no-judge", help="Score the candidates and compare the selectors after recording.")
]
InFlightOption = Annotated[
    str,
    typer.Option(
        metavar="INTEGER|auto",
        help="Problems generated together, which is faster; they are lost if the command is interrupted. auto takes as "
        "many as --max-rows has room for.",
    ),
]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")]


def bench(
    task: TaskArgument,
    out: OutOption,
    model: ModelOption = DEFAULT_MODEL,
    n: NOption = SAMPLING.n,
    limit: LimitOption = None,
    score: ScoreOption = NAD.score,
    max_new_tokens: MaxNewTokensOption = 512,
    temperature: TemperatureOption = SAMPLING.temperature,
    top_p: TopPOption = SAMPLING.top_p,
    top_k: TopKOption = SAMPLING.top_k,
    seed: SeedOption = 0,
    in_flight: InFlightOption = "1",
    max_rows: MaxRowsOption = "auto",
    resume: ResumeOption = False,
    judge: JudgeOption = True,
    selectors: SelectorsOption = "all",
    workers: WorkersOption = 1,
    timeout: TimeoutOption = 10.0,
    adapter: AdapterOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    engine: EngineOption = "hf",
    engine_option: EngineOptionsOption = None,
    url: URLOption = None,
    ray: RayOption = False,
    ray_address: RayAddressOption = None,
    replicas: ReplicasOption = None,
    num_cpus: NumCPUsOption = None,
    num_gpus: NumGPUsOption = None,
) -> None:
    """Record N candidates for every problem of a benchmark, score them, and compare the selectors.

    The problems come in random order, and an interrupted run can be resumed.
    """
    from nad_agents.evaluation.datasets import load_problems, shuffled
    from nad_agents.runs.folder import check_run_folder

    # 1. what cannot work is refused before a model is loaded
    rows, together = count_or_auto("--max-rows", max_rows), count_or_auto("--in-flight", in_flight)
    sampling = SamplingConfig(
        n=n, max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p, top_k=top_k, seed=seed
    )
    config = NADConfig(selector="first", score=cast("ScoreName", score))
    problems, source = load_problems(task)
    problems = shuffled(problems, seed)
    wanted = min(limit or len(problems), len(problems))
    compared = parse_selectors(selectors)
    of_ray = {"replicas": replicas, "num_cpus": num_cpus, "num_gpus": num_gpus}
    given = check_ray_options(ray, ray_address, of_ray)
    copies = ReplicaOptions.parse(given) if ray else None
    if judge and any(problem.kind == "code" for problem in problems[:wanted]):
        _check_sandbox()
    check_run_folder(out, resume=resume)
    console = Console(stderr=True)
    # 2. the model, whose candidates for a problem do not depend on which problems came before
    decoder_options = {
        "model": model,
        "adapter": adapter,
        "device": device,
        "dtype": dtype,
        "max_rows": rows,
        "prefix_cache_mb": 0,
        "engine": engine,
        "engine_options": engine_options(engine, engine_option, url),
    }
    with _open_recorder(console, decoder_options, together, n, copies, ray_address) as recorder:
        from nad_agents.evaluation.recording import record_problems

        # 3. the candidates
        with RecordingProgress(console, wanted) as progress:
            record_problems(
                recorder,
                problems,
                out,
                sampling=sampling,
                config=config,
                task=source,
                order_seed=seed,
                limit=limit,
                resume=resume,
                on_problem=progress,
            )
    console.print(f"{wanted} problems are recorded in {out}", highlight=False, soft_wrap=True)
    # 4. the comparison
    if judge:
        _compare(console, out, compared, workers, timeout)


@contextmanager
def _open_recorder(
    console: Console,
    decoder_options: Mapping[str, Any],
    in_flight: int | Literal["auto"],
    n: int,
    copies: ReplicaOptions | None,
    ray_address: str | None,
) -> Iterator[ProblemRecorder]:
    """Load the model here, or copies of it on a Ray cluster."""
    if copies is None:
        with loading(console, decoder_options["model"]):
            from nad_agents.decoder import NeuronAgreementDecoder
            from nad_agents.evaluation.recording import DecoderRecorder

            decoder = NeuronAgreementDecoder(**decoder_options)
            together = max(1, decoder.max_rows // n) if in_flight == "auto" else in_flight
            recorder = DecoderRecorder(decoder, in_flight=together)
        yield recorder
        return
    from nad_agents.ray_cluster import connected

    if in_flight == "auto":
        msg = "--in-flight auto follows from the memory of one machine; with --ray, give a number"
        raise ConfigurationError(msg)
    with connected(ray_address) as ray:
        from nad_agents.evaluation.ray_recording import RayRecorder

        on_cluster = RayRecorder(ray, decoder_options, replicas=copies, in_flight=in_flight)
        try:
            with loading(console, decoder_options["model"]):
                on_cluster.describe_model()
            yield on_cluster
        finally:
            on_cluster.close()


def _check_sandbox() -> None:
    """Raise an error before hours of recording if the problems need a sandbox and there is none."""
    from nad_sandbox import SandboxUnavailableError, auto_sandbox

    try:
        auto_sandbox().close()
    except SandboxUnavailableError as error:
        msg = f"{error}. Or record now (--no-judge), and judge later with `nad report`"
        raise ConfigurationError(msg) from error


def _compare(console: Console, out: Path, selectors: list[str] | None, workers: int, timeout: float) -> None:
    from nad_agents.evaluation.evidence import collect_evidence
    from nad_agents.evaluation.measures import measure_run
    from nad_agents.evaluation.plan import Plan
    from nad_agents.runs import RecordedRun

    run = RecordedRun(out)
    score_recorded(console, run, workers=workers, timeout=timeout)
    plan = Plan.for_run(run, selectors=selectors)
    with console.status("Comparing the selectors ..."):
        evidence = collect_evidence(measure_run(run, plan, workers=workers), plan)
    show_evidence(Console(), evidence)
    console.print(f"pictures and more tables: nad report {out}", highlight=False, soft_wrap=True)


class RecordingProgress:
    """A bar over the problems with the time left, or plain lines where the output is no terminal.

    Args:
        console: Console that shows the progress.
        total: Number of problems.
    """

    def __init__(self, console: Console, total: int) -> None:
        self._console = console
        self._total = total
        self._tokens = 0
        self._started = 0.0
        self._recorded = 0
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]} left, {task.fields[speed]}"),
            console=console,
        )
        self._task = self._bar.add_task("recording", total=total, speed="0 tokens/s", left="?")

    def __enter__(self) -> RecordingProgress:
        self._started = time.perf_counter()
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, record: ProblemRecord, done: int) -> None:
        """Show that one more problem is recorded.

        Args:
            record: The problem with its candidates.
            done: Number of problems that are recorded, those of an earlier run included.
        """
        self._recorded += 1
        self._tokens += sum(len(rollout) for rollout in record.group.rollouts)
        seconds = max(time.perf_counter() - self._started, 1e-9)
        left = (self._total - done) * seconds / self._recorded
        speed, time_left = f"{self._tokens / seconds:.1f} tokens/s", str(timedelta(seconds=round(left)))
        self._bar.update(self._task, completed=done, description=record.problem, speed=speed, left=time_left)
        if not self._console.is_terminal:
            line = f"{done}/{self._total} {record.problem}, {speed}, {time_left} left"
            self._console.print(line, highlight=False, soft_wrap=True)
