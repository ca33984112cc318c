"""`nad serve`: serve a model over OpenAI's protocol.

The `nad` command loads this module at each start, so that whatever needs FastAPI or torch is imported in `serve`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console

from nad_agents.cli.display import loading
from nad_agents.cli.network_options import LOOPBACK, APIKeyOption, HostOption, PortOption, api_keys, is_loopback
from nad_agents.cli.options import (
    DEFAULT_MODEL,
    REPEATABLE,
    SAMPLING,
    DeviceOption,
    DtypeOption,
    EngineOption,
    EngineOptionsOption,
    ModelOption,
    SandboxKind,
    SelectorOption,
    URLOption,
    engine_options,
    option,
)
from nad_agents.exceptions import ConfigurationError
from nad_agents.types import NADConfig, SamplingConfig
from nad_server.settings import ServerSettings

if TYPE_CHECKING:
    from nad_agents.verification import Verifier

__all__ = ["serve"]

_SERVER = ServerSettings()

NameOption = Annotated[
    list[str] | None, typer.Option("--name", help=f"Name under which the model can be requested. {REPEATABLE}")
]
AdapterOption = Annotated[
    list[str] | None,
    typer.Option(
        "--adapter",
        metavar="NAME=ADAPTER",
        help="Name under which the model with a LoRA adapter can be requested, and the adapter: a hub id or a folder "
        f"that PEFT saved. The weights of the model are shared. {REPEATABLE}",
    ),
]
NOption = Annotated[int, option(SamplingConfig, "n", "--n", "-n", note="A request may set another one.")]
TemperatureOption = Annotated[
    float, option(SamplingConfig, "temperature", "--temperature", "-t", note="A request may set another one.")
]
MaxNewTokensOption = Annotated[int, option(ServerSettings, "max_tokens", "--max-new-tokens")]
EarlyStopOption = Annotated[
    bool,
    typer.Option(
        "--early-stop", help="Choose after the first chunk; the winner is then streamed while it is generated."
    ),
]
VerifyOption = Annotated[
    SandboxKind | None,
    typer.Option("--verify", help="Check the Python code of candidates in a sandbox; without this no code is run."),
]
ProposeInputsOption = Annotated[
    bool,
    typer.Option(
        "--propose-inputs",
        help="Let the model propose inputs for the selector behaviour, with one more short answer per request.",
    ),
]
MinTemperatureOption = Annotated[float, option(ServerSettings, "min_temperature")]
MaxCandidatesOption = Annotated[int, option(ServerSettings, "max_candidates")]
MaxPromptTokensOption = Annotated[
    int | None, option(ServerSettings, "max_prompt_tokens", note="Default: what the model's context holds.")
]
MaxRowsOption = Annotated[int, option(ServerSettings, "max_rows")]
MaxWaitingOption = Annotated[int, option(ServerSettings, "max_waiting")]
ShutdownSecondsOption = Annotated[float, option(ServerSettings, "shutdown_seconds")]
CORSOriginOption = Annotated[list[str] | None, option(ServerSettings, "cors_origins", "--cors-origin", note=REPEATABLE)]
UIOption = Annotated[bool, option(ServerSettings, "ui", "--ui")]


def serve(
    model: ModelOption = DEFAULT_MODEL,
    name: NameOption = None,
    adapter: AdapterOption = None,
    n: NOption = SAMPLING.n,
    selector: SelectorOption = "auto",
    early_stop: EarlyStopOption = False,
    verify: VerifyOption = None,
    propose_inputs: ProposeInputsOption = False,
    api_key: APIKeyOption = None,
    host: HostOption = "127.0.0.1",
    port: PortOption = 8000,
    max_new_tokens: MaxNewTokensOption = _SERVER.max_tokens,
    temperature: TemperatureOption = SAMPLING.temperature,
    min_temperature: MinTemperatureOption = _SERVER.min_temperature,
    max_candidates: MaxCandidatesOption = _SERVER.max_candidates,
    max_prompt_tokens: MaxPromptTokensOption = _SERVER.max_prompt_tokens,
    max_rows: MaxRowsOption = _SERVER.max_rows,
    max_waiting: MaxWaitingOption = _SERVER.max_waiting,
    shutdown_seconds: ShutdownSecondsOption = _SERVER.shutdown_seconds,
    cors_origin: CORSOriginOption = None,
    ui: UIOption = _SERVER.ui,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    engine: EngineOption = "hf",
    engine_option: EngineOptionsOption = None,
    url: URLOption = None,
) -> None:
    """Serve a model over OpenAI's protocol; each answer is the best of N candidates."""
    # 1. what cannot work is refused before anything is started
    from nad_agents.selection import check_configuration

    sampling = SamplingConfig(n=n, temperature=temperature, max_new_tokens=max_new_tokens)
    config = NADConfig(selector=selector, pruning="first_chunk" if early_stop else "never")
    if propose_inputs and verify is None:
        msg = "--propose-inputs are for programs that run in a sandbox; add --verify auto"
        raise ConfigurationError(msg)
    adapters = _parse_adapters(adapter or ())
    if adapters and engine != "hf":
        msg = f"--adapter works with --engine hf only, not {engine}; serve a model that has the adapter merged"
        raise ConfigurationError(msg)
    keys = api_keys(api_key)
    settings = _server_settings(
        api_keys=keys,
        model_names=tuple(name or ()) or _default_names(model),
        max_tokens=max_new_tokens,
        max_candidates=max(max_candidates, n),
        max_prompt_tokens=max_prompt_tokens,
        max_rows=max_rows,
        max_waiting=max_waiting,
        min_temperature=min_temperature,
        shutdown_seconds=shutdown_seconds,
        # with a key, a web page whose name is made to lead to this machine is refused anyway
        hosts=(*LOOPBACK, host) if is_loopback(host) and not keys else (),
        cors_origins=tuple(cors_origin or ()),
        ui=ui,
    )
    console = Console(stderr=True)
    if not is_loopback(host) and not keys:
        console.print(f"[yellow]without --api-key everybody who reaches {host} may use this server[/]")
    from nad_server import create_app
    from nad_server import serve as run_server

    with contextlib.ExitStack() as stack:
        verifier: Verifier | None = None
        runner: Any = None
        sandbox: Any = None
        if verify is not None:
            verifier, runner, sandbox = _open_sandbox(stack, console, verify)
            if selector in ("auto", "behaviour", "behaviour_groups"):
                config = config.model_copy(update={"selector_options": {"runner": runner}})
        check_configuration(sampling, config)
        # 2. the model
        with loading(console, model):
            from nad_agents.decoder import NeuronAgreementDecoder

            make = partial(
                NeuronAgreementDecoder,
                sampling=sampling,
                config=config,
                max_rows=max_rows,
                engine=engine,
                engine_options=engine_options(engine, engine_option, url),
            )
            decoder = make(model, device=device, dtype=dtype)
            loaded: Any = decoder.loaded
            adapted = {name: make(loaded, adapter=path) for name, path in adapters.items()}
        if propose_inputs:
            from nad_agents.input_proposals import ModelInputs
            from nad_server.python_verifier import ProposedInputs

            runner.propose = ProposedInputs(ModelInputs(decoder))
        # 3. requests
        app = create_app(decoder, settings, verifier=verifier, runner=runner, sandbox=sandbox, adapters=adapted)
        run_server(app, host=host, port=port)


def _parse_adapters(values: Sequence[str]) -> dict[str, str]:
    """Return the adapters by name, after checking that each can be applied.

    Raises:
        ConfigurationError: A value is not of the form NAME=ADAPTER, or a name is given twice.
        NADError: See `nad_agents.models.adapter.find_adapter`.
    """
    adapters: dict[str, str] = {}
    for value in values:
        name, _, path = value.partition("=")
        if not name.strip() or not path.strip() or "@" in name or name in adapters:
            msg = f"--adapter {value!r}: write NAME=ADAPTER, each with another name, such as --adapter sql=./sql-lora"
            raise ConfigurationError(msg)
        adapters[name] = path
    if adapters:
        from nad_agents.models.adapter import find_adapter

        for path in adapters.values():
            find_adapter(path)
    return adapters


def _server_settings(**values: Any) -> ServerSettings:
    try:
        return ServerSettings(**values)
    except ValidationError as error:
        problem = error.errors()[0]
        msg = f"--{str(problem['loc'][0]).replace('_', '-')}: {problem['msg']}"
        raise ConfigurationError(msg) from error


def _default_names(model: str) -> tuple[str, ...]:
    """Return the names of a model: a hub id with and without its owner, or the last part of a path.

    The whole path would tell clients about the folders of the server.
    """
    from nad_agents.models.folder import looks_like_path

    path = Path(model).expanduser()
    if looks_like_path(model) or path.exists():
        return (path.resolve().name.removesuffix(".gguf"),)
    return (model, model.rsplit("/", 1)[-1]) if "/" in model else (model,)


def _open_sandbox(stack: contextlib.ExitStack, console: Console, kind: SandboxKind) -> tuple[Verifier, Any, Any]:
    """Return a verifier, a runner for the selector behaviour, and their sandbox, which closes with the stack."""
    from nad_sandbox import BehaviourRunner, CodeVerifier, auto_sandbox

    from nad_server.python_verifier import PythonAnswers

    with console.status("Starting the sandbox ..."):
        sandbox = stack.enter_context(auto_sandbox(kind))
    return PythonAnswers(CodeVerifier(sandbox)), BehaviourRunner(sandbox), sandbox
