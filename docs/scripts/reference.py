"""Write the pages under docs/reference/ that follow from the code: python docs/scripts/reference.py (`make reference`).

Parameters come from the fields of the configs, commands from the parsers of the command line, the server's endpoints
from its OpenAPI document, metrics and selectors from their registries, and errors from the exceptions' classes.
`tests/unit/test_reference.py` compares the pages with what this would write.
"""

from __future__ import annotations

import inspect
import os
import re
import types
import typing
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "reference"
_GENERATED = "<!-- written by docs/scripts/reference.py from the code: `make reference` -->\n\n"


def pages() -> dict[str, str]:
    """Return the text of every generated page by its file name."""
    made = {
        "parameters.md": parameters_page(),
        "cli.md": command_page(),
        "server.md": server_page(),
        "selectors.md": selectors_page(),
        "errors.md": errors_page(),
    }
    return {name: f"{_GENERATED}{text.strip()}\n" for name, text in made.items()}


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines) + "\n"


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", str(text)).strip().replace("|", "\\|")


# --- parameters ---


def parameters_page() -> str:
    """Return the page of the library's and the front ends' parameters."""
    from langchain_nad import NADChatModel
    from llama_index.llms.nad import NADLLM

    from nad_agents.chat.local_chat_model import LocalChatModel
    from nad_agents.types import NADConfig, SamplingConfig, VerificationConfig

    shared = list(LocalChatModel.model_fields)
    own = [
        ("Only in LangChain's `NADChatModel`", NADChatModel, _own_fields(NADChatModel, shared)),
        ("Only in LlamaIndex' `NADLLM`", NADLLM, _own_fields(NADLLM, shared)),
    ]
    sections = [
        "# Parameters\n",
        "`SamplingConfig`, `NADConfig` and `VerificationConfig` are the options of a `NeuronAgreementDecoder` and of "
        "each of its calls. The models of LangChain and LlamaIndex have the same options as flat fields. An unknown "
        "name and a value out of bounds raise `ConfigurationError` before anything is generated.\n",
    ]
    for config in (SamplingConfig, NADConfig, VerificationConfig):
        sections += [f"## {config.__name__}\n", _field_table(config, list(config.model_fields))]
    sections += [
        "## Models of LangChain and LlamaIndex\n",
        "`langchain_nad.NADChatModel` and `llama_index.llms.nad.NADLLM` take these fields, most of which a single call "
        "may override, as in `chat.invoke(text, n=4)`. Bounds and values are those of the configs above.\n",
        _field_table(LocalChatModel, shared),
    ]
    for title, model, names in own:
        sections += [f"## {title}\n", _field_table(model, names)]
    return "\n".join(sections)


def _own_fields(model: type[BaseModel], shared: Sequence[str]) -> list[str]:
    return [name for name in model.model_fields if name not in shared and model.model_fields[name].description]


def _field_table(model: type[BaseModel], names: Sequence[str]) -> str:
    rows = []
    for name in names:
        field = model.model_fields[name]
        shown = field.alias or name
        kind = _type(field.annotation, [*field.metadata])
        rows.append((f"`{shown}`", kind, _default(field), field.description or ""))
    return table(("name", "type", "default", "meaning"), rows)


def _default(field: Any) -> str:
    if field.default_factory is not None:
        made = field.default_factory()
        # an object's address would change with each run
        return f"`{made!r}`" if isinstance(made, list | dict | tuple) else ""
    return "" if field.default is PydanticUndefined else f"`{field.default!r}`"


def _type(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    """Return a type as the reader writes its values, with the bounds of numbers."""
    if typing.get_origin(annotation) is typing.Annotated:
        annotation = typing.get_args(annotation)[0]
    choices = _choices(annotation)
    if choices:
        text = ", ".join(f"`{choice!r}`" for choice in choices)
    elif _is_union(annotation):
        text = " or ".join(_type(part) for part in typing.get_args(annotation))
    else:
        whole = not inspect.isclass(annotation) or typing.get_args(annotation)
        name = str(annotation if whole else annotation.__name__)
        # the last part of a dotted name
        text = "`" + re.sub(r"[\w.]+[.](\w+)", r"\1", name) + "`"
        text = text.replace("NoneType", "None")
    limits = {}
    for item in metadata:
        for name, sign in (("ge", ">="), ("gt", ">"), ("le", "<="), ("lt", "<")):
            if getattr(item, name, None) is not None:
                limits[sign] = getattr(item, name)
    # a bound stays on one line
    bounds = ", ".join(f"{sign}\u00a0{value:g}" for sign, value in limits.items())
    return f"{text}, {bounds}" if bounds else text


def _choices(annotation: Any) -> tuple[Any, ...]:
    if typing.get_origin(annotation) is typing.Literal:
        return typing.get_args(annotation)
    return ()


# --- commands ---


def commands() -> Iterator[tuple[str, Any]]:
    """Yield every command of `nad` with its name, those of the integrations included."""
    from nad_mcp.command import mcp
    from nad_server.command import serve

    from nad_agents.cli import commands as command_line

    app = typer.Typer(add_completion=False, rich_markup_mode="rich")
    for registered in command_line.app.registered_commands:
        if registered.name not in ("mcp", "serve"):
            app.command(registered.name)(registered.callback)  # type: ignore[arg-type] # each has a callback
    app.command("serve")(serve)
    app.command("mcp")(mcp)
    group: Any = typer.main.get_command(app)
    yield from group.commands.items()


def command_page() -> str:
    """Return the page of the command line."""
    sections = [
        "# Command line\n",
        "`nad` has these commands; each has `--help`. What its exit status means: "
        "[exit codes](../how-to/exit-codes.md).\n",
    ]
    for name, command in commands():
        arguments = [p for p in command.params if p.param_type_name == "argument"]
        usage = " ".join(["nad", name, *(str(a.name).upper() for a in arguments), "[OPTIONS]"])
        sections += [f"## nad {name}\n", f"```text\n{usage}\n```\n", f"{_plain(command.help)}\n"]
        rows = []
        for parameter in command.params:
            if parameter.param_type_name == "argument":
                names = f"`{str(parameter.name).upper()}`"
            else:
                names = ", ".join(f"`{option}`" for option in [*parameter.opts, *parameter.secondary_opts])
            if "--help" in parameter.opts:
                continue
            help_text = _plain(getattr(parameter, "help", "") or "")
            rows.append((names, _command_default(parameter), help_text))
        sections.append(table(("option", "default", "meaning"), rows))
    return "\n".join(sections)


def _plain(text: str | None) -> str:
    """Return help without rich's escapes, in one paragraph."""
    return re.sub(r"\s+", " ", (text or "").replace("\\[", "[")).strip()


def _command_default(parameter: Any) -> str:
    default = parameter.default
    unset = default is None or callable(default) or default == () or "UNSET" in repr(default)
    if parameter.param_type_name == "argument":
        return "required"
    return "" if unset or default is False else f"`{default}`"


# --- server ---


def server_page() -> str:
    """Return the page of the server: endpoints, parameters, what is refused, settings, metrics and statuses."""
    from nad_server import create_app, unsupported_params
    from nad_server.errors import ERRORS
    from nad_server.nad_options import NADOptions
    from nad_server.protocol import ChatRequest, CompletionRequest
    from nad_server.protocol_responses import ResponsesRequest
    from nad_server.settings import ServerSettings

    from nad_agents.testing import ScriptedDecoder

    app = create_app(ScriptedDecoder("", name="model"), ServerSettings(ui=True))  # type: ignore[arg-type] # a script
    endpoints = [
        (f"`{method.upper()} {path}`", operation.get("description") or operation.get("summary") or "")
        for path, operations in app.openapi()["paths"].items()
        for method, operation in operations.items()
    ]
    sections = [
        "# Server\n",
        "`nad serve` speaks OpenAI's protocol. How to use it: [tutorial](../tutorials/coding-assistant.md), "
        "[clients](../integrations/openai.md).\n",
        "## Endpoints\n",
        table(("endpoint", "what it does"), endpoints),
    ]
    bodies = (
        ("POST /v1/chat/completions", ChatRequest),
        ("POST /v1/completions", CompletionRequest),
        ("POST /v1/responses", ResponsesRequest),
    )
    for title, body in bodies:
        sections += [f"## Parameters of {title}\n", _body_table(body)]
    sections += [
        "## The `nad` object\n",
        "Options that OpenAI's protocol has no parameter for. Most can also be written behind the model's name, as in "
        "`name@n=16,selector=medoid`.\n",
        _body_table(NADOptions),
        "## Parameters that are refused\n",
        "These parameters of other servers are accepted only with a value that asks for nothing, and are refused by "
        "name otherwise.\n",
        ", ".join(f"`{name}`" for name in sorted(unsupported_params._NEUTRAL)) + ".\n",
        "Hints are ignored and listed under `nad.ignored` of the response: "
        + ", ".join(f"`{name}`" for name in sorted(unsupported_params._HINTS))
        + ".\n",
        "## Statuses\n",
        'An error has OpenAI\'s form: `{"error": {"message", "type", "param", "code"}}`.\n',
        table(("status", "meaning"), [(str(status), str(error["description"])) for status, error in ERRORS.items()]),
        "## Metrics\n",
        "`GET /metrics` is in Prometheus' text format.\n",
        table(("metric", "type", "labels", "meaning"), _metrics(app)),
        "## Settings\n",
        "The fields of `nad_server.ServerSettings`; `nad serve` sets most of them by [options](cli.md#nad-serve).\n",
        _field_table(ServerSettings, list(ServerSettings.model_fields)),
    ]
    return "\n".join(sections)


def _body_table(body: type[BaseModel]) -> str:
    rows = []
    for name, field in body.model_fields.items():
        parts = typing.get_args(field.annotation) if _is_union(field.annotation) else (field.annotation,)
        kinds = [kind for kind in parts if kind is not type(None)]
        shown = " or ".join(dict.fromkeys(_type(kind) for kind in kinds))
        rows.append((f"`{name}`", shown, field.description or ""))
    return table(("name", "type", "meaning"), rows)


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (typing.Union, types.UnionType)


def _metrics(app: Any) -> Iterator[Sequence[str]]:
    """Yield name, type, labels and meaning of every metric, of one that no request has touched."""
    registry = app.state.server.metrics._registry
    for collector in sorted(registry._collector_to_names, key=lambda collector: str(collector._name)):
        kind, name = collector._type, collector._name
        shown = f"{name}_total" if kind == "counter" else name
        yield f"`{shown}`", kind, ", ".join(f"`{label}`" for label in collector._labelnames), collector._documentation


# --- selectors ---


def selectors_page() -> str:
    """Return the page of the selectors."""
    from nad_agents.selectors import registry

    sections = [
        "# Selectors\n",
        "Names for `selector` in `NADConfig`, in the models of LangChain and LlamaIndex, for `nad ask --selector` and "
        "for the server's `nad.selector`. Options go into `selector_options`. How to choose one: "
        "[choose a selector](../how-to/selectors.md).\n",
    ]
    rows = []
    for selector in registry._BUILT_IN:
        options = registry._option_names(selector) or []
        first = re.split(r"\n\s*\n", inspect.getdoc(selector) or "")[0]
        needs = "neurons" if selector.needs_neurons else ""
        rows.append((f"`{selector.name}`", first, needs, ", ".join(f"`{option}`" for option in options)))
    sections.append(table(("name", "what it does", "needs", "options"), rows))
    return "\n".join(sections)


# --- errors ---


def errors_page() -> str:
    """Return the page of the exceptions as trees, each with what it means and where it is caught otherwise."""
    import langchain_nad.errors as langchain_errors
    from nad_sandbox import base
    from nad_sandbox.checks import verifier

    from nad_agents import exceptions
    from nad_agents.cli.commands import exit_code
    from nad_agents.runs import record_file

    known = {
        cls
        for module in (exceptions, record_file, langchain_errors, base, verifier)
        for cls in vars(module).values()
        if inspect.isclass(cls) and issubclass(cls, Exception) and cls.__module__ == module.__name__
    }
    sections = [
        "# Errors\n",
        "Every message says what was wrong, with which value, and what to do. By message: "
        "[troubleshooting](../troubleshooting.md). The exit status is that of the command `nad`.\n",
    ]
    for root, title in ((exceptions.NADError, "The library"), (base.SandboxError, "The sandbox")):
        lines, rows = [], []
        for depth, cls in _tree(root, known):
            lines.append("    " * depth + cls.__name__)
            also = [
                parent.__name__
                for parent in cls.__mro__
                if parent not in known and parent not in (cls, Exception, BaseException, object)
            ]
            meaning = re.split(r"\n\s*\n", inspect.getdoc(cls) or "")[0]
            code = exit_code(cls.__new__(cls))
            parents = ", ".join(name for name in also if name != "OSError")
            rows.append((f"`{cls.__name__}`", f"`{cls.__module__}`", parents, str(code), meaning))
        sections += [f"## {title}\n", "```text\n" + "\n".join(lines) + "\n```\n"]
        sections.append(table(("error", "module", "is also a", "exit status", "meaning"), rows))
    return "\n".join(sections)


def _tree(root: type[BaseException], known: set[type[Exception]], depth: int = 0) -> Iterator[tuple[int, type[Any]]]:
    yield depth, root
    for cls in sorted((c for c in known if root in c.__bases__), key=lambda c: c.__name__):
        yield from _tree(cls, known, depth + 1)


def main() -> None:
    """Write the pages."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    os.environ.setdefault("COLUMNS", "120")
    main()
