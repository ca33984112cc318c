"""`nad serve`: serve a model over OpenAI's protocol.

The `nad` command loads this module at each start, so that whatever needs FastAPI or torch is imported in `serve`.
"""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from nad_agents.cli.network_options import APIKeyOption, HostOption, PortOption, check_address, is_loopback
from nad_agents.cli.options import (
    DEFAULT_MODEL,
    REPEATABLE,
    SAMPLING,
    DeviceOption,
    DtypeOption,
    EngineOption,
    EngineOptionsOption,
    MaxRowsOption,
    ModelOption,
    NumCPUsOption,
    NumGPUsOption,
    RayAddressOption,
    RayOption,
    ReplicasOption,
    SandboxKind,
    SelectorOption,
    URLOption,
    check_ray_options,
    count_or_auto,
    option,
)
from nad_agents.types import SamplingConfig
from nad_server.options import ServeOptions
from nad_server.ray_options import RayOptions
from nad_server.settings import ServerSettings

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
MaxWaitingOption = Annotated[int, option(ServerSettings, "max_waiting")]
ShutdownSecondsOption = Annotated[float, option(ServerSettings, "shutdown_seconds")]
CORSOriginOption = Annotated[list[str] | None, option(ServerSettings, "cors_origins", "--cors-origin", note=REPEATABLE)]
UIOption = Annotated[bool, option(ServerSettings, "ui", "--ui")]
MinReplicasOption = Annotated[int | None, option(RayOptions, "min_replicas")]
MaxReplicasOption = Annotated[int | None, option(RayOptions, "max_replicas")]
TargetOngoingRequestsOption = Annotated[float | None, option(RayOptions, "target_ongoing_requests")]


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
    max_rows: MaxRowsOption = str(_SERVER.max_rows),
    max_waiting: MaxWaitingOption = _SERVER.max_waiting,
    shutdown_seconds: ShutdownSecondsOption = _SERVER.shutdown_seconds,
    cors_origin: CORSOriginOption = None,
    ui: UIOption = _SERVER.ui,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    engine: EngineOption = "hf",
    engine_option: EngineOptionsOption = None,
    url: URLOption = None,
    ray: RayOption = False,
    ray_address: RayAddressOption = None,
    replicas: ReplicasOption = None,
    min_replicas: MinReplicasOption = None,
    max_replicas: MaxReplicasOption = None,
    target_ongoing_requests: TargetOngoingRequestsOption = None,
    num_cpus: NumCPUsOption = None,
    num_gpus: NumGPUsOption = None,
) -> None:
    """Serve a model over OpenAI's protocol; each answer is the best of N candidates."""
    # 1. what cannot work is refused before anything is started
    shared = {
        "model": model,
        "name": name,
        "adapter": adapter,
        "n": n,
        "selector": selector,
        "early_stop": early_stop,
        "verify": verify,
        "propose_inputs": propose_inputs,
        "api_key": api_key,
        "host": host,
        "max_new_tokens": max_new_tokens,
        "temperature": temperature,
        "min_temperature": min_temperature,
        "max_candidates": max_candidates,
        "max_prompt_tokens": max_prompt_tokens,
        "max_rows": count_or_auto("--max-rows", max_rows),
        "max_waiting": max_waiting,
        "shutdown_seconds": shutdown_seconds,
        "cors_origin": cors_origin,
        "ui": ui,
        "device": device,
        "dtype": dtype,
        "engine": engine,
        "engine_option": engine_option,
        "url": url,
    }
    of_ray = {
        "replicas": replicas,
        "min_replicas": min_replicas,
        "max_replicas": max_replicas,
        "target_ongoing_requests": target_ongoing_requests,
        "num_cpus": num_cpus,
        "num_gpus": num_gpus,
    }
    given = check_ray_options(ray, ray_address, of_ray)
    options = RayOptions.parse({**shared, **given}) if ray else ServeOptions.parse(shared)
    options.check()
    settings = options.settings
    console = Console(stderr=True)
    if not is_loopback(host) and not settings.api_keys:
        console.print(f"[yellow]without --api-key everybody who reaches {host} may use this server[/]")
    # 2. the model, and requests
    if isinstance(options, RayOptions):
        from nad_server.ray_server import serve_on_ray

        serve_on_ray(options, port=port, address=ray_address, console=console)
        return
    from nad_server import serve as run_server
    from nad_server.served_app import open_app

    check_address(host, port)
    with open_app(options, settings, console) as app:
        run_server(app, host=host, port=port)
