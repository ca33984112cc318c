"""`nad serve`: the model behind OpenAI's protocol."""

from __future__ import annotations

import contextlib
import os
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console

from nad_agents.cli.display import loading
from nad_agents.cli.generate import DeviceOption, DtypeOption, ModelOption
from nad_agents.exceptions import ConfigurationError
from nad_agents.types import NADConfig, SamplingConfig

if TYPE_CHECKING:
    from nad_sandbox.backends.auto import SandboxKind

    from nad_server import ServerSettings

__all__ = ["serve"]

_DEFAULT = "HuggingFaceTB/SmolLM2-135M-Instruct"
_LOCAL = ("127.0.0.1", "::1", "localhost")

NameOption = Annotated[
    list[str] | None, typer.Option("--name", help="Name that the model answers to; may be given twice.")
]
NOption = Annotated[int, typer.Option("--n", "-n", help="Candidates per answer, unless a request says otherwise.")]
SelectorOption = Annotated[
    str, typer.Option("--selector", "-s", help="How the best is found; auto is knn, or first where there is one.")
]
EarlyOption = Annotated[
    bool, typer.Option("--early-stop", help="Choose after the first chunk; answers then stream as they are written.")
]
VerifyOption = Annotated[
    Literal["auto", "docker", "bubblewrap"] | None,
    typer.Option("--verify", help="Check the Python code of candidates in a sandbox; without this no code is run."),
]
ProposeOption = Annotated[
    bool,
    typer.Option(
        "--propose-inputs",
        help="Let the model propose inputs for the selector behaviour too: one more short answer per request.",
    ),
]
KeyOption = Annotated[
    list[str] | None,
    typer.Option("--api-key", help="Key that requests must bring; may be given twice. Default: $NAD_API_KEY."),
]
HostOption = Annotated[
    str,
    typer.Option(help="Address to listen on. On a loopback address without a key only loopback names are answered."),
]
PortOption = Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.", min=0, max=65535)]
TokensOption = Annotated[int, typer.Option("--max-new-tokens", help="Token limit of answers that ask for none.")]
TemperatureOption = Annotated[float, typer.Option("--temperature", "-t", help="Of requests that ask for none.")]
MinTemperatureOption = Annotated[
    float,
    typer.Option(help="Raise lower temperatures to this: coding assistants ask for 0, which has one candidate."),
]
CandidatesOption = Annotated[int, typer.Option("--max-candidates", help="Most candidates that a request may have.")]
PromptOption = Annotated[int | None, typer.Option("--max-prompt-tokens", help="Longest prompt.")]
RowsOption = Annotated[int, typer.Option("--max-rows", help="Candidates of all requests in one batch.")]
WaitingOption = Annotated[int, typer.Option("--max-waiting", help="Requests that may wait; further ones get 429.")]
ShutdownOption = Annotated[
    float, typer.Option(help="Seconds that running requests may go on after the signal to stop; then they are ended.")
]
OriginOption = Annotated[
    list[str] | None, typer.Option("--cors-origin", help="Let web pages from this origin in; may be given twice.")
]
UIOption = Annotated[bool, typer.Option("--ui", help="Serve a page at /ui on which the candidates can be watched.")]


def serve(
    model: ModelOption = _DEFAULT,
    name: NameOption = None,
    n: NOption = 8,
    selector: SelectorOption = "auto",
    early_stop: EarlyOption = False,
    verify: VerifyOption = None,
    propose_inputs: ProposeOption = False,
    api_key: KeyOption = None,
    host: HostOption = "127.0.0.1",
    port: PortOption = 8000,
    max_new_tokens: TokensOption = 1024,
    temperature: TemperatureOption = 0.8,
    min_temperature: MinTemperatureOption = 0.0,
    max_candidates: CandidatesOption = 64,
    max_prompt_tokens: PromptOption = None,
    max_rows: RowsOption = 128,
    max_waiting: WaitingOption = 64,
    shutdown_seconds: ShutdownOption = 30.0,
    cors_origin: OriginOption = None,
    ui: UIOption = False,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
) -> None:
    """Serve a model over OpenAI's protocol; every answer is the best of N candidates."""
    # 1. what cannot work is refused before anything is started
    from nad_agents.selection import check_configuration

    chosen = ("knn" if n > 1 else "first") if selector == "auto" else selector
    sampling = SamplingConfig(n=n, temperature=temperature, max_new_tokens=max_new_tokens)
    config = NADConfig(selector=chosen, pruning="first_chunk" if early_stop else "never")
    if propose_inputs and verify is None:
        msg = "--propose-inputs are for programs that run in a sandbox; add --verify auto"
        raise ConfigurationError(msg)
    keys = api_key or [key for key in (os.environ.get("NAD_API_KEY"),) if key]
    settings = _settings(
        api_keys=tuple(keys),
        model_names=tuple(name or ()) or _names(model),
        max_tokens=max_new_tokens,
        max_candidates=max(max_candidates, n),
        max_prompt_tokens=max_prompt_tokens,
        max_rows=max_rows,
        max_waiting=max_waiting,
        min_temperature=min_temperature,
        shutdown_seconds=shutdown_seconds,
        # with a key a stranger's page gets nowhere
        hosts=(*_LOCAL, host) if _is_local(host) and not keys else (),
        cors_origins=tuple(cors_origin or ()),
        ui=ui,
    )
    console = Console(stderr=True)
    if not _is_local(host) and not keys:
        console.print(f"[yellow]without --api-key everybody who reaches {host} may use this server[/]")
    from nad_server import create_app
    from nad_server.uvicorn_server import serve as run

    with contextlib.ExitStack() as stack:
        checks: dict[str, Any] = {}
        if verify is not None:
            checks = _checks(stack, console, verify)
            if chosen == "behaviour":
                config = config.model_copy(update={"selector_options": {"runner": checks["runner"]}})
        check_configuration(sampling, config)
        # 2. the model
        with loading(console, model):
            from nad_agents.decoder import NeuronAgreementDecoder

            decoder = NeuronAgreementDecoder(
                model, sampling=sampling, config=config, device=device, dtype=dtype, max_rows=max_rows
            )
        if propose_inputs:
            from nad_agents.input_proposals import ModelInputs
            from nad_server.python_verifier import ProposedInputs

            checks["runner"].propose = ProposedInputs(ModelInputs(decoder))
        # 3. requests
        run(create_app(decoder, settings, **checks), host=host, port=port)


def _is_local(host: str) -> bool:
    """Whether an address to listen on lets in this machine alone."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host in _LOCAL


def _settings(**values: Any) -> ServerSettings:
    from pydantic import ValidationError

    from nad_server import ServerSettings

    try:
        return ServerSettings(**values)
    except ValidationError as error:
        problem = error.errors()[0]
        msg = f"--{str(problem['loc'][0]).replace('_', '-')}: {problem['msg']}"
        raise ConfigurationError(msg) from error


def _names(model: str) -> tuple[str, ...]:
    """A hub id is the model's name; a path is nobody's business, and its last part has to do."""
    from nad_agents.models.folder import looks_like_path

    path = Path(model).expanduser()
    if looks_like_path(model) or path.exists():
        return (path.resolve().name.removesuffix(".gguf"),)
    return (model, model.rsplit("/", 1)[-1]) if "/" in model else (model,)


def _checks(stack: contextlib.ExitStack, console: Console, kind: SandboxKind) -> dict[str, Any]:
    """What runs code, in a sandbox that closes with the stack; an error where there is none."""
    from nad_sandbox import BehaviourRunner, CodeVerifier, auto_sandbox

    from nad_server.python_verifier import PythonAnswers

    with console.status("Starting the sandbox ..."):
        sandbox = stack.enter_context(auto_sandbox(kind))
    return {"verifier": PythonAnswers(CodeVerifier(sandbox)), "runner": BehaviourRunner(sandbox), "sandbox": sandbox}
