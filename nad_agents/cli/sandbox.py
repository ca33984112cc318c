"""The sandbox for generated code: opened for a command, and used for checks and for comparing behaviour."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console

from nad_agents.exceptions import ConfigurationError, MissingDependencyError
from nad_agents.types import NADConfig
from nad_agents.verification import Verifier

if TYPE_CHECKING:
    from nad_sandbox import Sandbox

    from nad_agents.cli.options import SandboxKind
    from nad_agents.decoder import NeuronAgreementDecoder

__all__ = ["Decision", "code_verifier", "open_sandbox", "with_behaviour"]

Decision = Literal["vote", "judge"]
"""What decides between two leading groups of programs on inputs that separate them."""


def open_sandbox(stack: contextlib.ExitStack, console: Console, kind: SandboxKind, *, required: bool) -> Sandbox | None:
    """Open a sandbox that closes with a stack; without one, return None and say so, unless one is required.

    Args:
        stack: Closes the sandbox.
        console: Where progress is shown.
        kind: The kind of sandbox.
        required: Whether there has to be one.

    Raises:
        SandboxUnavailableError: One is required, and there is none.
    """
    from nad_sandbox import SandboxUnavailableError, auto_sandbox

    try:
        with console.status("Starting the sandbox ..."):
            return stack.enter_context(auto_sandbox(kind))
    except SandboxUnavailableError as error:
        if required:
            raise
        console.print(f"no sandbox, so neurons alone decide: {error}", style="dim", highlight=False, soft_wrap=True)
        return None


def code_verifier(sandbox: Sandbox, tests: str | None) -> Verifier:
    """Return a verifier with the default checks and the user's tests.

    Args:
        sandbox: Where the code is run.
        tests: The tests, if there are any.

    Raises:
        ConfigurationError: The tests do not compile, or nothing in them runs the code.
    """
    from nad_sandbox import CodeVerifier

    try:
        return CodeVerifier(sandbox, tests=tests)
    except ValueError as error:
        raise ConfigurationError(str(error)) from error


def with_behaviour(
    config: NADConfig,
    sandbox: Sandbox,
    decoder: NeuronAgreementDecoder,
    selector: str = "behaviour",
    *,
    separate: Decision | None = None,
    assertions: bool = False,
) -> NADConfig:
    """Return the same configuration with the candidates compared by what their programs do.

    Args:
        config: The configuration.
        sandbox: Sandbox in which the programs run.
        decoder: Proposes the inputs to run them on, or writes the assertions.
        selector: The selector that compares them.
        separate: What decides between two leading groups on inputs that the model proposes to separate them; None
            proposes none.
        assertions: Whether assertions that the model writes count too.

    Raises:
        MissingDependencyError: The selector needs assertions or separating inputs, and llguidance is not installed.
    """
    from nad_sandbox import AssertionRunner, BehaviourRunner

    from nad_agents.input_proposals import ModelAssertions, ModelInputs, ModelSeparator
    from nad_agents.self_evaluation import ModelJudge

    if selector in ("codet", "b4"):
        checks = {"runner": AssertionRunner(sandbox, ModelAssertions(decoder))}
        return config.model_copy(update={"selector": selector, "selector_options": checks})

    try:
        propose = ModelInputs(decoder)
    except MissingDependencyError:  # without grammars, examples and generated values have to do
        propose = None
    options: dict[str, Any] = {"runner": BehaviourRunner(sandbox, propose=propose)}
    if separate is not None:
        options["separate"] = ModelSeparator(decoder)
    if separate == "judge":
        options["judge"] = ModelJudge(decoder)
    if assertions:
        options["assertions"] = AssertionRunner(sandbox, ModelAssertions(decoder))
    return config.model_copy(update={"selector": selector, "selector_options": options})
