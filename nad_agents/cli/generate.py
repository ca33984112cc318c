"""`nad ask` and `nad code`: one prompt, N candidates, the chosen answer and why."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console

from nad_agents.cli.display import CandidateProgress, answer_panel, candidate_table, loading, reason, summary
from nad_agents.exceptions import ConfigurationError, MissingDependencyError, PromptError
from nad_agents.types import NADConfig, SamplingConfig, Selection, VerificationConfig
from nad_agents.verification import Verifier

if TYPE_CHECKING:
    from nad_sandbox import Sandbox
    from nad_sandbox.backends.auto import SandboxKind

    from nad_agents.decoder import NeuronAgreementDecoder

__all__ = ["ask", "code"]

_DEFAULT = "HuggingFaceTB/SmolLM2-135M-Instruct"
_CODE_INSTRUCTION = "Answer with one complete Python code block that solves the task.\n\n"

PromptArgument = Annotated[str, typer.Argument(help="What to ask; '-' reads it from standard input.")]
ModelOption = Annotated[str, typer.Option("--model", "-m", help="Hub id, local folder or GGUF file.")]
NOption = Annotated[int, typer.Option("--n", "-n", help="Number of candidates.")]
WaveOption = Annotated[
    int | None, typer.Option(min=1, help="Generate so many candidates at a time, which takes less memory.")
]
SelectorOption = Annotated[
    str, typer.Option("--selector", "-s", help="How the best is found; auto is knn, or first where there is one.")
]
SimilarityOption = Annotated[str, typer.Option(help="How two candidates' activated neurons are compared.")]
ScoreOption = Annotated[str, typer.Option(help="Score of a neuron: activation or attribution.")]
CodeSelectorOption = Annotated[
    str,
    typer.Option(
        "--selector", "-s", help="How the best is found; auto is behaviour where there is a sandbox, else as for ask."
    ),
]
TokensOption = Annotated[int, typer.Option("--max-new-tokens", help="Token limit of each candidate.")]
TemperatureOption = Annotated[float, typer.Option("--temperature", "-t", help="0 is greedy and needs --n 1.")]
TopPOption = Annotated[float, typer.Option(help="Nucleus sampling.")]
TopKOption = Annotated[int, typer.Option(help="Sample from the k likeliest tokens; 0 keeps all.")]
SeedOption = Annotated[int | None, typer.Option(help="Repeat a result.")]
StopOption = Annotated[list[str] | None, typer.Option(help="A string that ends a candidate; may be given twice.")]
EarlyOption = Annotated[
    bool, typer.Option("--early-stop", help="Choose after the first chunk and finish the winner alone.")
]
HalveOption = Annotated[
    int | None,
    typer.Option(min=2, metavar="S", help="Keep one in S after every chunk of 32 tokens: 64, 16, 4, 1 with S = 4."),
]
KeepOption = Annotated[int, typer.Option(help="Candidates that survive --early-stop or --halve.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, mps ...")]
DtypeOption = Annotated[str, typer.Option(help="auto, float32, bfloat16, float16 or int8.")]
VerifyOption = Annotated[
    bool, typer.Option("--verify", help="Check the chosen code in a sandbox, and on failure the next in rank.")
]
TestsOption = Annotated[
    Path | None, typer.Option(help="Python tests that the code must pass; implies --verify.", dir_okay=False)
]
SandboxOption = Annotated[
    Literal["auto", "docker", "bubblewrap"],
    typer.Option("--sandbox", help="Where code is run; auto is Docker where an engine answers, else bubblewrap."),
]
StrictOption = Annotated[bool, typer.Option("--strict", help="Fail when no candidate passes, and print no code.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the whole selection as JSON, and nothing else.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print the answer alone.")]


def ask(
    prompt: PromptArgument,
    model: ModelOption = _DEFAULT,
    n: NOption = 8,
    wave: WaveOption = None,
    selector: SelectorOption = "auto",
    similarity: SimilarityOption = "jaccard",
    score: ScoreOption = "activation",
    max_new_tokens: TokensOption = 256,
    temperature: TemperatureOption = 0.8,
    top_p: TopPOption = 0.95,
    top_k: TopKOption = 50,
    seed: SeedOption = None,
    stop: StopOption = None,
    early_stop: EarlyOption = False,
    halve: HalveOption = None,
    keep: KeepOption = 1,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Ask a question: N candidates, ranked by neuron agreement, and the answer that was chosen."""
    sampling = SamplingConfig(
        n=n, max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p, top_k=top_k, seed=seed,
        stop=tuple(stop or ()), wave=wave,
    )  # fmt: skip
    config = _config(_agreement(selector, n), similarity, score, early_stop=early_stop, halve=halve, keep=keep)
    console = _console(as_json=as_json, quiet=quiet)
    text = _read(prompt)
    _refuse_what_cannot_work(sampling, config)
    decoder = _load(console, model, device, dtype)
    with CandidateProgress(console, sampling) as progress:
        selection = decoder.decode(text, sampling=sampling, config=config, on_progress=progress)
    _show(console, selection, selection.text, as_json=as_json, quiet=quiet, code=False)


def code(
    prompt: PromptArgument,
    model: ModelOption = _DEFAULT,
    n: NOption = 8,
    wave: WaveOption = None,
    selector: CodeSelectorOption = "auto",
    similarity: SimilarityOption = "jaccard",
    score: ScoreOption = "activation",
    max_new_tokens: TokensOption = 256,
    temperature: TemperatureOption = 0.8,
    top_p: TopPOption = 0.95,
    top_k: TopKOption = 50,
    seed: SeedOption = None,
    stop: StopOption = None,
    early_stop: EarlyOption = False,
    halve: HalveOption = None,
    keep: KeepOption = 1,
    verify: VerifyOption = False,
    tests: TestsOption = None,
    strict: StrictOption = False,
    sandbox_kind: SandboxOption = "auto",
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Ask for Python code: the program that agrees most is printed, after checks in a sandbox if you ask for them.

    With a sandbox at hand the candidates are run on the same inputs and compared by what they do (behaviour), else by
    their neurons (knn).
    """
    from nad_sandbox.checks.code_extraction import extract_code

    # 1. what cannot work is refused before anything is started
    sampling = SamplingConfig(
        n=n, max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p, top_k=top_k, seed=seed,
        stop=tuple(stop or ()), wave=wave,
    )  # fmt: skip
    # early stopping chooses between beginnings, which cannot be run
    behaviour = selector == "behaviour" or (selector == "auto" and n > 1 and not early_stop and halve is None)
    named = _agreement("auto" if behaviour else selector, n)
    config = _config(named, similarity, score, early_stop=early_stop, halve=halve, keep=keep)
    _refuse_what_cannot_work(sampling, config)
    task, source = _read(prompt), _read_tests(tests)
    console = _console(as_json=as_json, quiet=quiet)
    verify = verify or tests is not None
    with contextlib.ExitStack() as stack:
        # 2. the sandbox, for behaviour and for the checks
        sandbox, verifier = None, None
        if verify or behaviour:
            sandbox = _open_sandbox(stack, console, sandbox_kind, required=verify or selector == "behaviour")
        if sandbox is not None and verify:
            verifier = _verifier(sandbox, source)
        # 3. the model
        decoder = _load(console, model, device, dtype)
        if sandbox is not None and behaviour:
            config = _by_behaviour(config, sandbox, decoder)
        # 4. the candidates
        with CandidateProgress(console, sampling) as progress:
            selection = decoder.decode(
                _CODE_INSTRUCTION + task,
                sampling=sampling,
                config=config,
                on_progress=progress,
                verifier=verifier,
                verification=VerificationConfig(on_failure="error" if strict else "best_ranked"),
            )
    _show(console, selection, extract_code(selection.text, task), as_json=as_json, quiet=quiet, code=True)
    if selection.verified is False:
        feedback = str((selection.best.verdict or {}).get("feedback", ""))
        console.print(answer_panel(feedback, code=False, title="why the best-ranked candidate fails"))
        raise typer.Exit(3)


def _read_tests(tests: Path | None) -> str | None:
    if tests is None:
        return None
    try:
        return tests.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        msg = f"the tests {tests} cannot be read: {error}"
        raise ConfigurationError(msg) from error


def _open_sandbox(
    stack: contextlib.ExitStack, console: Console, kind: SandboxKind, *, required: bool
) -> Sandbox | None:
    """A sandbox that closes with the stack; None, and a line that says so, where there is none and none is required."""
    from nad_sandbox import SandboxUnavailableError, auto_sandbox

    try:
        with console.status("Starting the sandbox ..."):
            sandbox = stack.enter_context(auto_sandbox(kind))
    except SandboxUnavailableError as error:
        if required:
            raise
        console.print(f"no sandbox, so neurons alone decide: {error}", style="dim", highlight=False, soft_wrap=True)
        return None
    return sandbox


def _by_behaviour(config: NADConfig, sandbox: Sandbox, decoder: NeuronAgreementDecoder) -> NADConfig:
    """The same configuration with the candidates compared by what their programs do."""
    from nad_sandbox import BehaviourRunner

    from nad_agents.input_proposals import ModelInputs

    try:
        propose = ModelInputs(decoder)
    except MissingDependencyError:  # without grammars, examples and generated values have to do
        propose = None
    options = {"runner": BehaviourRunner(sandbox, propose=propose)}
    return config.model_copy(update={"selector": "behaviour", "selector_options": options})


def _verifier(sandbox: Sandbox, tests: str | None) -> Verifier:
    """The default checks, and the user's tests."""
    from nad_sandbox import CodeVerifier

    try:
        return CodeVerifier(sandbox, tests=tests)
    except ValueError as error:
        raise ConfigurationError(str(error)) from error


def _config(selector: str, similarity: str, score: str, *, early_stop: bool, halve: int | None, keep: int) -> NADConfig:
    values: dict[str, Any] = {"selector": selector, "similarity": similarity, "score": score, "keep": keep}
    if early_stop and halve is not None:
        raise ConfigurationError("--early-stop and --halve are two ways to drop candidates; choose one")
    if halve is not None:
        values |= {"pruning": "halving", "shrink": halve}
    else:
        values["pruning"] = "first_chunk" if early_stop else "never"
    return NADConfig(**values)


def _agreement(selector: str, n: int) -> str:
    """The selector that `auto` stands for: the paper's, where there is something to compare."""
    if selector != "auto":
        return selector
    return "knn" if n > 1 else "first"


def _read(prompt: str) -> str:
    text = sys.stdin.read() if prompt == "-" else prompt
    if not text.strip():
        msg = "the prompt is empty; write what the model should answer"
        raise PromptError(msg)
    return text


def _console(*, as_json: bool, quiet: bool) -> Console:
    """Where progress and evidence go: the terminal, or nowhere."""
    return Console(stderr=True, quiet=as_json or quiet)


def _refuse_what_cannot_work(sampling: SamplingConfig, config: NADConfig) -> None:
    """Before torch is imported, which takes a while."""
    from nad_agents.selection import check_configuration

    check_configuration(sampling, config)


def _load(console: Console, model: str, device: str, dtype: str) -> NeuronAgreementDecoder:
    with loading(console, model):
        from nad_agents.decoder import NeuronAgreementDecoder

        return NeuronAgreementDecoder(model, device=device, dtype=dtype)


def _show(console: Console, selection: Selection, text: str, *, as_json: bool, quiet: bool, code: bool) -> None:
    if as_json:
        typer.echo(selection.model_dump_json(indent=2))
        return
    console.print(candidate_table(selection, console.width))
    console.print(reason(selection), soft_wrap=True)
    console.print(summary(selection), style="dim", soft_wrap=True)
    if quiet or not sys.stdout.isatty():
        typer.echo(text)
    else:
        title = f"candidate #{selection.winner}"
        Console().print(answer_panel(text, code=code, title=title))
