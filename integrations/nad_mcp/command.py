"""`nad mcp`: offer best-of-N, checks of code and a sandbox to assistants that speak the Model Context Protocol.

The `nad` command loads this module at each start, so that whatever needs mcp or torch is imported in `mcp`.
"""

from __future__ import annotations

import contextlib
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape

from nad_agents.cli.display import loading
from nad_agents.cli.network_options import (
    LOOPBACK,
    APIKeyOption,
    HostOption,
    PortOption,
    api_keys,
    check_address,
    is_loopback,
)
from nad_agents.cli.options import (
    DEFAULT_MODEL,
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
    SelectorOption,
    TemperatureOption,
    URLOption,
    engine_options,
)
from nad_agents.exceptions import ConfigurationError
from nad_agents.types import BEHAVIOUR_SELECTORS, NADConfig, SamplingConfig

if TYPE_CHECKING:
    from nad_agents.decoder import NeuronAgreementDecoder

__all__ = ["mcp"]

TransportOption = Annotated[
    Literal["stdio", "http"],
    typer.Option(
        help="stdio for an assistant that starts this command itself; http for one that connects to "
        "http://HOST:PORT/mcp."
    ),
]


def mcp(
    model: ModelOption = DEFAULT_MODEL,
    n: NOption = SAMPLING.n,
    selector: SelectorOption = "auto",
    max_new_tokens: MaxNewTokensOption = 1024,
    temperature: TemperatureOption = SAMPLING.temperature,
    sandbox_kind: SandboxOption = "auto",
    transport: TransportOption = "stdio",
    api_key: APIKeyOption = None,
    host: HostOption = "127.0.0.1",
    port: PortOption = 8001,
    adapter: AdapterOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    engine: EngineOption = "hf",
    engine_option: EngineOptionsOption = None,
    url: URLOption = None,
) -> None:
    """Serve the tools best_of_n, check_code and run_python over the Model Context Protocol."""
    # 1. what cannot work is refused before anything is started
    from nad_agents.selection import check_configuration

    sampling = SamplingConfig(n=n, temperature=temperature, max_new_tokens=max_new_tokens)
    options = engine_options(engine, engine_option, url)
    keys = api_keys(api_key)
    if transport == "http" and not is_loopback(host) and not keys:
        msg = f"whoever reaches {host} could run programs here; give --api-key or $NAD_API_KEY, or --host 127.0.0.1"
        raise ConfigurationError(msg)
    from nad_mcp import create_http_app, create_server

    if transport == "http":
        check_address(host, port)
    console = Console(stderr=True)
    with contextlib.ExitStack() as stack:
        from nad_sandbox import AutoSandbox, BehaviourRunner

        # nothing is started before the first program is run
        sandbox = stack.enter_context(AutoSandbox(sandbox_kind))
        runs_code = selector in BEHAVIOUR_SELECTORS
        config = NADConfig(
            selector=selector, selector_options={"runner": BehaviourRunner(sandbox)} if runs_code else {}
        )
        check_configuration(sampling, config)

        def load() -> NeuronAgreementDecoder:
            with loading(console, model):
                from nad_agents.decoder import NeuronAgreementDecoder

                return NeuronAgreementDecoder(
                    model,
                    adapter=adapter,
                    sampling=sampling,
                    config=config,
                    device=device,
                    dtype=dtype,
                    engine=engine,
                    engine_options=options,
                )

        # 2. an assistant waits only seconds for the first answer of what it has started, so the model loads meanwhile
        if transport == "stdio":
            loader = stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="nad-load"))
            decoder = loader.submit(load)
            decoder.add_done_callback(lambda done: _show_failure(console, done))
            stack.callback(_close, decoder)
            create_server(decoder, sandbox=sandbox).run("stdio")
            return
        # 3. whoever connects to an address finds a model
        hosts = (*LOOPBACK, host) if is_loopback(host) and not keys else ()
        server = create_server(stack.enter_context(contextlib.closing(load())), sandbox=sandbox)
        app = create_http_app(server, api_keys=keys, hosts=hosts)
        from nad_mcp.http import run_http

        run_http(app, host=host, port=port)


def _show_failure(console: Console, decoder: Future[NeuronAgreementDecoder]) -> None:
    """Say why the model could not be loaded where people look first; the assistant is told by its first call."""
    error = decoder.exception()
    if error is not None:
        console.print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True, highlight=False)


def _close(decoder: Future[NeuronAgreementDecoder]) -> None:
    """Close a decoder once it has been loaded."""
    if decoder.done() and decoder.exception() is None:
        decoder.result().close()
