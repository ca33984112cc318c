"""The application that the options of `nad serve` ask for, with its model and its sandbox."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rich.console import Console

from nad_agents.cli.display import loading
from nad_agents.cli.options import SandboxKind
from nad_agents.types import BEHAVIOUR_SELECTORS
from nad_server.options import ServeOptions
from nad_server.settings import ServerSettings

if TYPE_CHECKING:
    from fastapi import FastAPI

    from nad_agents.verification import Verifier

__all__ = ["open_app"]


@contextlib.contextmanager
def open_app(options: ServeOptions, settings: ServerSettings, console: Console) -> Iterator[FastAPI]:
    """Start the sandbox, load the model, and yield the application; both are freed when the block ends.

    Args:
        options: The options, which `ServeOptions.check` has found to be right.
        settings: The settings that follow from the options.
        console: Shows what is being done.

    Raises:
        MissingDependencyError: The extra `server` is not installed.
        NADError: The model cannot be loaded, or a selector cannot work.
        SandboxError: There is no sandbox.
    """
    from nad_agents.selection import check_configuration
    from nad_server import create_app

    sampling, config = options.sampling, options.config
    adapters, engine_options = options.adapters(), options.engine_options
    if adapters:
        from nad_agents.models.adapter import find_adapter

        found = [find_adapter(path, needs_peft=options.engine == "hf") for path in adapters.values()]
        if options.engine == "vllm":
            from nad_agents.engine.vllm.adapters import adapter_options

            engine_options = {**adapter_options(found), **engine_options}
    with contextlib.ExitStack() as stack:
        # 1. the sandbox
        verifier: Verifier | None = None
        runner: Any = None
        sandbox: Any = None
        if options.verify is not None:
            verifier, runner, sandbox = _open_sandbox(stack, console, options.verify)
            if options.selector in ("auto", *BEHAVIOUR_SELECTORS):
                config = config.model_copy(update={"selector_options": {"runner": runner}})
        check_configuration(sampling, config)
        # 2. the model
        with loading(console, options.model):
            from nad_agents.decoder import NeuronAgreementDecoder

            decoder = NeuronAgreementDecoder(
                options.model,
                sampling=sampling,
                config=config,
                device=options.device,
                dtype=options.dtype,
                max_rows=options.max_rows,
                engine=options.engine,
                engine_options=engine_options,
            )
            stack.callback(decoder.close)
            adapted = {name: decoder.with_adapter(path) for name, path in adapters.items()}
            for one in adapted.values():
                stack.callback(one.close)
        if options.propose_inputs:
            from nad_agents.input_proposals import ModelInputs
            from nad_server.python_verifier import ProposedInputs

            runner.propose = ProposedInputs(ModelInputs(decoder))
        # 3. requests
        yield create_app(decoder, settings, verifier=verifier, runner=runner, sandbox=sandbox, adapters=adapted)


def _open_sandbox(stack: contextlib.ExitStack, console: Console, kind: SandboxKind) -> tuple[Verifier, Any, Any]:
    """Return a verifier, a runner for the selector behaviour, and their sandbox, which closes with the stack."""
    from nad_sandbox import BehaviourRunner, CodeVerifier, auto_sandbox

    from nad_server.python_verifier import PythonAnswers

    with console.status("Starting the sandbox ..."):
        sandbox = stack.enter_context(auto_sandbox(kind))
    return PythonAnswers(CodeVerifier(sandbox)), BehaviourRunner(sandbox), sandbox
