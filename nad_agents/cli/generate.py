"""`nad ask` and `nad code`: generate N candidates for a prompt, print the best one, and say why it was chosen."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from nad_agents.cli.candidate_progress import decode_with_progress
from nad_agents.cli.display import answer_panel, candidate_table, loading, reason, summary
from nad_agents.cli.options import (
    DEFAULT_MODEL,
    NAD,
    REPEATABLE,
    SAMPLING,
    AdapterOption,
    DeviceOption,
    DtypeOption,
    EngineOption,
    EngineOptionsOption,
    MaxNewTokensOption,
    ModelOption,
    NOption,
    SandboxOption,
    ScoreOption,
    SelectorOption,
    SimilarityOption,
    TemperatureOption,
    TopKOption,
    TopPOption,
    URLOption,
    engine_options,
    option,
)
from nad_agents.cli.sandbox import Decision, code_verifier, open_sandbox, with_behaviour
from nad_agents.exceptions import ConfigurationError, PromptError
from nad_agents.types import (
    BEHAVIOUR_SELECTORS,
    EngineName,
    NADConfig,
    SamplingConfig,
    Selection,
    Until,
    VerificationConfig,
)

if TYPE_CHECKING:
    from nad_agents.decoder import NeuronAgreementDecoder

__all__ = ["ask", "code"]

_CODE_INSTRUCTION = "Answer with one complete Python code block that solves the task.\n\n"

PromptArgument = Annotated[str, typer.Argument(help="The prompt; '-' reads it from standard input.")]
WaveOption = Annotated[int | None, option(SamplingConfig, "wave", note="Default: all of them.")]
SeedOption = Annotated[int | None, option(SamplingConfig, "seed", note="The same seed repeats a result.")]
StopOption = Annotated[list[str] | None, option(SamplingConfig, "stop", note=REPEATABLE)]
EarlyStopOption = Annotated[
    bool, typer.Option("--early-stop", help="Choose after the first chunk and finish the winner alone.")
]
HalveOption = Annotated[
    int | None,
    option(
        NADConfig,
        "shrink",
        text="Keep one candidate in S after every chunk of 32 tokens: 64, 16, 4, 1 with S = 4.",
        metavar="S",
    ),
]
UntilOption = Annotated[Until | None, option(NADConfig, "until")]
KeepOption = Annotated[int, option(NADConfig, "keep", text="Candidates that survive --early-stop or --halve.")]
JSONOption = Annotated[bool, typer.Option("--json", help="Print the whole selection as JSON, and nothing else.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print the answer alone.")]
PlainOption = Annotated[
    bool, typer.Option("--plain", help="Print plain lines as into a file: no colors, and nothing that moves.")
]
CodeSelectorOption = Annotated[
    str,
    typer.Option(
        "--selector",
        "-s",
        help="Name of a selector; auto is behaviour with a sandbox, else agreement and log-probability.",
    ),
]
SeparateOption = Annotated[
    Decision | None,
    typer.Option(
        "--separate",
        help="If two groups of programs lead, run inputs on which the model expects them to differ; then the "
        "vote decides, or the model's judgment of the results (judge).",
    ),
]
AssertionsOption = Annotated[
    bool,
    typer.Option(
        "--assertions",
        help="Let the model write assertions, which count as much as what the programs do.",
    ),
]
VerifyOption = Annotated[
    bool, typer.Option("--verify", help="Check the chosen code in a sandbox, and if it fails, the next in rank.")
]
CheckAllOption = Annotated[
    bool,
    typer.Option(
        "--check-all",
        help="Check all candidates, and choose by comparing only those that pass; implies --verify.",
    ),
]
TestsOption = Annotated[
    Path | None, typer.Option(help="File of Python tests that the code must pass; implies --verify.", dir_okay=False)
]
StrictOption = Annotated[bool, typer.Option("--strict", help="Fail if no candidate passes, and print no code.")]


def ask(
    prompt: PromptArgument,
    model: ModelOption = DEFAULT_MODEL,
    n: NOption = SAMPLING.n,
    wave: WaveOption = SAMPLING.wave,
    selector: SelectorOption = "auto",
    similarity: SimilarityOption = NAD.similarity,
    score: ScoreOption = NAD.score,
    max_new_tokens: MaxNewTokensOption = SAMPLING.max_new_tokens,
    temperature: TemperatureOption = SAMPLING.temperature,
    top_p: TopPOption = SAMPLING.top_p,
    top_k: TopKOption = SAMPLING.top_k,
    seed: SeedOption = SAMPLING.seed,
    stop: StopOption = None,
    early_stop: EarlyStopOption = False,
    halve: HalveOption = None,
    keep: KeepOption = NAD.keep,
    until: UntilOption = NAD.until,
    adapter: AdapterOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    engine: EngineOption = "hf",
    engine_option: EngineOptionsOption = None,
    url: URLOption = None,
    as_json: JSONOption = False,
    quiet: QuietOption = False,
    plain: PlainOption = False,
) -> None:
    """Generate N answers to a prompt, rank them by neuron agreement, and print the best one."""
    # 1. what cannot work is refused before torch is imported
    sampling = SamplingConfig(
        n=n, max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p, top_k=top_k, seed=seed,
        stop=tuple(stop or ()), wave=wave,
    )  # fmt: skip
    if until == "passed":
        raise ConfigurationError("--until passed needs something to pass; use nad code, which checks in a sandbox")
    config = _nad_config(selector, similarity, score, early_stop=early_stop, halve=halve, keep=keep, until=until)
    text = _read_prompt(prompt)
    _check(sampling, config)
    # 2. the model
    console = _progress_console(as_json=as_json, quiet=quiet, plain=plain)
    decoder = _load_decoder(console, model, adapter, device, dtype, engine, engine_options(engine, engine_option, url))
    # 3. the candidates
    selection = decode_with_progress(console, decoder, text, sampling=sampling, config=config)
    _print_selection(console, selection, selection.text, as_json=as_json, quiet=quiet, plain=plain, code=False)


def code(
    prompt: PromptArgument,
    model: ModelOption = DEFAULT_MODEL,
    n: NOption = SAMPLING.n,
    wave: WaveOption = SAMPLING.wave,
    selector: CodeSelectorOption = "auto",
    similarity: SimilarityOption = NAD.similarity,
    score: ScoreOption = NAD.score,
    max_new_tokens: MaxNewTokensOption = SAMPLING.max_new_tokens,
    temperature: TemperatureOption = SAMPLING.temperature,
    top_p: TopPOption = SAMPLING.top_p,
    top_k: TopKOption = SAMPLING.top_k,
    seed: SeedOption = SAMPLING.seed,
    stop: StopOption = None,
    early_stop: EarlyStopOption = False,
    halve: HalveOption = None,
    keep: KeepOption = NAD.keep,
    until: UntilOption = NAD.until,
    separate: SeparateOption = None,
    assertions: AssertionsOption = False,
    verify: VerifyOption = False,
    tests: TestsOption = None,
    check_all: CheckAllOption = False,
    strict: StrictOption = False,
    sandbox_kind: SandboxOption = "auto",
    adapter: AdapterOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    engine: EngineOption = "hf",
    engine_option: EngineOptionsOption = None,
    url: URLOption = None,
    as_json: JSONOption = False,
    quiet: QuietOption = False,
    plain: PlainOption = False,
) -> None:
    """Generate N programs for a task and print the one that agrees most, checked in a sandbox if you ask for it.

    Where there is a sandbox, the programs are run on the same inputs and
    compared by what they do (behaviour), else by their neurons and their
    log-probability.
    """
    from nad_sandbox.checks.code_extraction import extract_code

    # 1. what cannot work is refused before anything is started
    sampling = SamplingConfig(
        n=n, max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p, top_k=top_k, seed=seed,
        stop=tuple(stop or ()), wave=wave,
    )  # fmt: skip
    # early stopping chooses between beginnings, which cannot be run
    needing = "--separate" if separate is not None else "--assertions" if assertions else None
    required = needing is not None or selector in (*BEHAVIOUR_SELECTORS, "codet", "b4")
    if needing is not None and selector not in ("auto", *BEHAVIOUR_SELECTORS):
        msg = f"{needing} compares what programs do, which the selector {selector} does not; leave out one of them"
        raise ConfigurationError(msg)
    behaviour = required or (selector == "auto" and n > 1 and not early_stop and halve is None)
    without_sandbox = "auto" if behaviour else selector
    config = _nad_config(without_sandbox, similarity, score, early_stop=early_stop, halve=halve, keep=keep, until=until)
    _check(sampling, config)
    task, source = _read_prompt(prompt), _read_tests(tests)
    console = _progress_console(as_json=as_json, quiet=quiet, plain=plain)
    verify = verify or check_all or tests is not None or until == "passed"
    with contextlib.ExitStack() as stack:
        # 2. the sandbox, for comparing behaviour and for the checks
        sandbox, verifier = None, None
        if verify or behaviour:
            sandbox = open_sandbox(stack, console, sandbox_kind, required=verify or required)
        if sandbox is not None and verify:
            verifier = code_verifier(sandbox, source)
        # 3. the model
        decoder = _load_decoder(
            console, model, adapter, device, dtype, engine, engine_options(engine, engine_option, url)
        )
        if sandbox is not None and behaviour:
            compared = "behaviour" if selector == "auto" else selector
            config = with_behaviour(config, sandbox, decoder, compared, separate=separate, assertions=assertions)
        # 4. the candidates
        selection = decode_with_progress(
            console,
            decoder,
            _CODE_INSTRUCTION + task,
            sampling=sampling,
            config=config,
            verifier=verifier,
            verification=VerificationConfig(check_all=check_all, on_failure="error" if strict else "best_ranked"),
        )
    # an answer may hold several programs; the verifier reports which one it checked
    program = (selection.best.verdict or {}).get("code") or extract_code(selection.text, task)
    _print_selection(console, selection, program, as_json=as_json, quiet=quiet, plain=plain, code=True)
    if selection.verified is False:
        feedback = str((selection.best.verdict or {}).get("feedback", ""))
        console.print(answer_panel(feedback, code=False, title="why the best-ranked candidate fails"))
        raise typer.Exit(3)


def _nad_config(
    selector: str,
    similarity: str,
    score: str,
    *,
    early_stop: bool,
    halve: int | None,
    keep: int,
    until: Until | None,
) -> NADConfig:
    if early_stop and halve is not None:
        raise ConfigurationError("--early-stop and --halve are two ways to drop candidates; choose one")
    values: dict[str, Any] = {"selector": selector, "similarity": similarity, "score": score}
    values |= {"keep": keep, "until": until}
    if halve is not None:
        values |= {"pruning": "halving", "shrink": halve}
    elif early_stop:
        values["pruning"] = "first_chunk"
    return NADConfig(**values)


def _check(sampling: SamplingConfig, config: NADConfig) -> None:
    from nad_agents.selection import check_configuration

    check_configuration(sampling, config)


def _read_prompt(prompt: str) -> str:
    try:
        text = sys.stdin.read() if prompt == "-" else prompt
    except UnicodeDecodeError as error:
        msg = f"standard input is no valid UTF-8: {error}; convert it first, as with: iconv -f latin1 -t utf-8"
        raise PromptError(msg) from error
    if not text.strip():
        msg = "the prompt is empty; write what the model should answer"
        raise PromptError(msg)
    return text


def _read_tests(tests: Path | None) -> str | None:
    if tests is None:
        return None
    try:
        return tests.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        msg = f"the tests {tests} cannot be read: {reason}; give a file of Python tests"
        raise ConfigurationError(msg) from error


def _progress_console(*, as_json: bool, quiet: bool, plain: bool) -> Console:
    """Return where progress and evidence are shown: the terminal, plain lines as in a file, or nowhere."""
    return Console(stderr=True, quiet=as_json or quiet, force_terminal=False if plain else None)


def _load_decoder(
    console: Console,
    model: str,
    adapter: str | None,
    device: str,
    dtype: str,
    engine: EngineName,
    options: dict[str, Any],
) -> NeuronAgreementDecoder:
    with loading(console, model):
        from nad_agents.decoder import NeuronAgreementDecoder

        return NeuronAgreementDecoder(
            model, adapter=adapter, device=device, dtype=dtype, engine=engine, engine_options=options
        )


def _print_selection(
    console: Console, selection: Selection, answer: str, *, as_json: bool, quiet: bool, plain: bool, code: bool
) -> None:
    if as_json:
        typer.echo(selection.model_dump_json(indent=2))
        return
    console.print(candidate_table(selection, console.width))
    console.print(reason(selection), soft_wrap=True)
    console.print(summary(selection), style="dim", soft_wrap=True)
    if quiet or plain or not sys.stdout.isatty():
        typer.echo(answer)
    else:
        title = f"candidate #{selection.winner}"
        Console().print(answer_panel(answer, code=code, title=title))
