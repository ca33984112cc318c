"""The typer application with its commands, and the message that a user sees for an error."""

from __future__ import annotations

import json
import sys
import tempfile
from functools import cache
from importlib.metadata import entry_points
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperGroup

from nad_agents._version import __version__
from nad_agents.cli.bench import bench
from nad_agents.cli.doctor import doctor
from nad_agents.cli.generate import ask, code
from nad_agents.cli.report import report
from nad_agents.cli.select import select
from nad_agents.exceptions import (
    ConfigurationError,
    MissingDependencyError,
    ModelLoadError,
    NADError,
    NoCandidatePassedError,
    PromptError,
    UnsupportedModelError,
)

__all__ = ["app", "exit_code", "main"]

_RESUMED_BY = {
    "bench": "what is recorded is kept; the same command with --resume goes on from there",
    "report": "what is scored is kept; the same command goes on from there",
}
"""How to go on with an interrupted command, where anything is left to go on from."""


class _Commands(TyperGroup):
    """The commands, interrupted by Ctrl-C with a line and the exit status 130."""

    def invoke(self, ctx: Any) -> Any:
        """Run the requested command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            # typer would end the process without a word
            resumed = _RESUMED_BY.get(ctx.invoked_subcommand or "")
            as_json = "--json" in sys.argv[1:]
            _print_error("interrupted" + (f"; {resumed}" if resumed else ""), "KeyboardInterrupt", as_json=as_json)
            raise typer.Exit(130) from None


app = typer.Typer(
    name="nad",
    cls=_Commands,
    help="Best-of-N for local models, chosen by neuron agreement.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
app.command("ask")(ask)
app.command("code")(code)
app.command("bench")(bench)
app.command("select")(select)
app.command("report")(report)
app.command("doctor")(doctor)

_OWN_COMMANDS = {command.name for command in app.registered_commands}


@cache
def _add_plugin_commands() -> None:
    """Add the commands that packages offer through the entry-point group ``nad_agents.commands``."""
    for entry in sorted(entry_points(group="nad_agents.commands"), key=lambda entry: entry.name):
        app.command(entry.name)(entry.load())


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"nad {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Best-of-N for local models, chosen by neuron agreement."""


def exit_code(error: BaseException) -> int:
    """Return the exit status for an error, by which scripts recognize the kind of error."""
    from nad_agents.runs.record_file import RunError

    if isinstance(error, (ConfigurationError, PromptError, RunError)):
        return 2
    if isinstance(error, NoCandidatePassedError):
        return 3
    missing = (ModelLoadError, MissingDependencyError, UnsupportedModelError)
    return 4 if isinstance(error, missing) or type(error).__name__ == "SandboxUnavailableError" else 1


def main() -> None:
    """Run the command line; the errors of the library become one line and an exit code, without a traceback."""
    as_json = "--json" in sys.argv[1:]
    try:
        # looking through the installed packages takes a while, which `nad ask` need not wait for
        if not _OWN_COMMANDS.intersection(sys.argv[1:2]):
            _add_plugin_commands()
        app()
    except Exception as raised:
        error = _without_temporary_folder(raised)
        sandbox_error = any(base.__name__ == "SandboxError" for base in type(error).__mro__)
        if not isinstance(error, NADError) and not sandbox_error:
            raise
        _print_error(str(error), type(error).__name__, as_json=as_json)
        sys.exit(exit_code(error))


def _without_temporary_folder(error: Exception) -> Exception:
    """Return an error that says what to do where torch finds no folder for temporary files; else the error itself."""
    if not isinstance(error, FileNotFoundError):
        return error
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        return ModelLoadError(
            "no folder for temporary files can be written to; mount one at /tmp, or set TMPDIR to one"
        )
    return error


def _print_error(message: str, kind: str, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"error": {"type": kind, "message": message}}))
    Console(stderr=True).print(f"[bold red]error:[/] {escape(message)}", soft_wrap=True, highlight=False)
