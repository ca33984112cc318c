"""The options of the command line, made of the fields of the configs, and those that several commands share."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic import BaseModel
from rich.markup import escape

from nad_agents.config_fields import MAX_ROWS_DESCRIPTION, bounds, description
from nad_agents.exceptions import ConfigurationError
from nad_agents.ray_cluster import ReplicaOptions
from nad_agents.types import EngineName, NADConfig, SamplingConfig

__all__ = [
    "DEFAULT_MODEL",
    "NAD",
    "REPEATABLE",
    "SAMPLING",
    "AdapterOption",
    "DeviceOption",
    "DtypeOption",
    "EngineOption",
    "EngineOptionsOption",
    "MaxNewTokensOption",
    "MaxRowsOption",
    "ModelOption",
    "NOption",
    "NumCPUsOption",
    "NumGPUsOption",
    "RayAddressOption",
    "RayOption",
    "ReplicasOption",
    "RunArgument",
    "SandboxKind",
    "SandboxOption",
    "ScoreOption",
    "SelectorOption",
    "SelectorsOption",
    "SimilarityOption",
    "TemperatureOption",
    "TimeoutOption",
    "TopKOption",
    "TopPOption",
    "URLOption",
    "WorkersOption",
    "check_ray_options",
    "count_or_auto",
    "engine_options",
    "json_or_text",
    "option",
]

DEFAULT_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
"""`nad_agents.models.DEFAULT_MODEL`, without importing torch."""

SAMPLING, NAD = SamplingConfig(), NADConfig()
"""The defaults of the options that are fields of these configs."""

REPEATABLE = "May be given more than once."

SandboxKind = Literal["auto", "docker", "bubblewrap"]


def option(config: type[BaseModel], field: str, *names: str, text: str = "", note: str = "", **settings: Any) -> Any:
    """Make a command-line option of a field: its help is the field's description with the choices and the bounds.

    The bounds are shown and not enforced. The config refuses a wrong value itself, in one line that names the field,
    the value and the reason.

    Args:
        config: The model that declares the field.
        field: The name of the field.
        *names: The option's names, such as ``--temperature`` and ``-t``; by default that of the function's parameter.
        text: Replaces the description where the option says the same in other words.
        note: A further sentence for the help.
        **settings: Further arguments of `typer.Option`.
    """
    annotation = config.model_fields[field].annotation
    choices = f"One of {', '.join(get_args(annotation))}." if get_origin(annotation) is Literal else ""
    sentences = (text or description(config, field), choices, note, _interval(bounds(config, field)))
    return typer.Option(*names, help=escape(" ".join(filter(None, sentences))), **settings)


def engine_options(engine: EngineName, given: list[str] | None, url: str | None) -> dict[str, Any]:
    """Return the options of an engine.

    Args:
        engine: The engine.
        given: The values of `--engine-option`; each is parsed as JSON if possible, and is text otherwise.
        url: The value of `--url`.

    Raises:
        ConfigurationError: A value is not of the form NAME=VALUE, or the engine has no address.
    """
    if url is not None and engine == "hf":
        msg = "--url is the address of a server, and transformers run here; add --engine openai, or vllm for vLLM's own"
        raise ConfigurationError(msg)
    found: dict[str, Any] = {} if url is None else {"base_url": url}
    for one in given or ():
        name, equals, value = one.partition("=")
        if not equals or not name:
            msg = f"--engine-option {one}: write NAME=VALUE, such as max_model_len=4096"
            raise ConfigurationError(msg)
        found[name] = json_or_text(value)
    return found


def count_or_auto(name: str, value: str) -> int | Literal["auto"]:
    """Return the value of an option that is a number from 1, or auto.

    Args:
        name: Name of the option, for the message.
        value: The value.

    Raises:
        ConfigurationError: The value is neither.
    """
    if value == "auto":
        return "auto"
    if not value.isdecimal() or int(value) < 1:
        msg = f"{name} {value}: give a number from 1, or auto"
        raise ConfigurationError(msg)
    return int(value)


def check_ray_options(ray: bool, address: str | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return those options of Ray that were given.

    Args:
        ray: Whether `--ray` was given.
        address: The value of `--ray-address`.
        options: The values of the further options by name; None was not given.

    Raises:
        ConfigurationError: An option was given without `--ray`.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if not ray and (given or address is not None):
        name = next(iter(given), "ray_address").replace("_", "-")
        msg = f"--{name} is for a Ray cluster; add --ray, or leave it out"
        raise ConfigurationError(msg)
    return given


def json_or_text(value: str) -> Any:
    """Return the value of an option, parsed as JSON if possible, and as text otherwise."""
    try:
        return json.loads(value)
    except ValueError:
        return value


def _interval(limits: dict[str, float]) -> str:
    """Return bounds as typer shows its own, such as ``[x>=1]`` or ``[0<=x<=1]``; nothing without bounds."""
    low = next((f"{limits[name]}{sign}x" for name, sign in (("gt", "<"), ("ge", "<=")) if name in limits), "x")
    high = next((f"{sign}{limits[name]}" for name, sign in (("lt", "<"), ("le", "<=")) if name in limits), "")
    if not high:
        low = next((f"x{sign}{limits[name]}" for name, sign in (("gt", ">"), ("ge", ">=")) if name in limits), "")
    return f"[{low}{high}]" if low or high else ""


ModelOption = Annotated[str, typer.Option("--model", "-m", help="Hub id, local folder or GGUF file.")]
AdapterOption = Annotated[
    str | None, typer.Option("--adapter", help="LoRA adapter of the model: hub id or folder that PEFT saved.")
]
DeviceOption = Annotated[str, typer.Option(help="Device of the model: auto, cpu, cuda, mps ...")]
EngineOption = Annotated[
    EngineName,
    typer.Option(
        "--engine",
        help="What runs the model: transformers (hf), vLLM in processes of its own (vllm), or a server with OpenAI's "
        "protocol, which shows no neurons (openai).",
    ),
]
URLOption = Annotated[
    str | None,
    typer.Option(
        "--url",
        help="Address of the server for --engine openai, such as http://localhost:11434/v1; or for --engine vllm, of a "
        "vllm serve that was started with VLLM_PLUGINS=nad_agents.",
    ),
]
EngineOptionsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--engine-option",
        metavar="NAME=VALUE",
        help=f"Option of the engine, such as max_model_len=4096 of vLLM. {REPEATABLE}",
    ),
]
MaxRowsOption = Annotated[str, typer.Option(metavar="INTEGER|auto", help=MAX_ROWS_DESCRIPTION)]
DtypeOption = Annotated[str, typer.Option(help="Type of the weights: auto, float32, bfloat16, float16 or int8.")]

NOption = Annotated[int, option(SamplingConfig, "n", "--n", "-n")]
MaxNewTokensOption = Annotated[int, option(SamplingConfig, "max_new_tokens")]
TemperatureOption = Annotated[float, option(SamplingConfig, "temperature", "--temperature", "-t")]
TopPOption = Annotated[float, option(SamplingConfig, "top_p")]
TopKOption = Annotated[int, option(SamplingConfig, "top_k")]

SandboxOption = Annotated[
    SandboxKind,
    typer.Option("--sandbox", help="Where code is run; auto is Docker if an engine answers, else bubblewrap."),
]
SelectorOption = Annotated[
    str,
    typer.Option(
        "--selector",
        "-s",
        help="Name of a selector; auto votes on stated answers and else ranks by agreement and log-probability.",
    ),
]
SimilarityOption = Annotated[str, option(NADConfig, "similarity")]
ScoreOption = Annotated[str, option(NADConfig, "score")]

RunArgument = Annotated[Path, typer.Argument(help="Folder of a recorded run.")]
SelectorsOption = Annotated[str, typer.Option(help="Selectors to compare, such as knn,mean_logprob; all compares all.")]
WorkersOption = Annotated[
    int, typer.Option(min=1, help="Programs that are checked, and problems that are compared, at the same time.")
]
TimeoutOption = Annotated[float, typer.Option(min=0.1, help="Seconds that a program and its tests may take.")]

RayOption = Annotated[
    bool,
    typer.Option("--ray", help="Run on a Ray cluster, with copies of the model in processes on one machine or many."),
]
RayAddressOption = Annotated[
    str | None,
    typer.Option(
        "--ray-address",
        metavar="ADDRESS",
        help="Address of the Ray cluster; local starts one on this machine. Default: $RAY_ADDRESS, else a cluster that "
        "runs on this machine, else one that is started.",
    ),
]
ReplicasOption = Annotated[
    int | None,
    option(ReplicaOptions, "replicas", note="Default: one that serves, and as many as there is room for that record."),
]
NumCPUsOption = Annotated[float | None, option(ReplicaOptions, "num_cpus", "--num-cpus", note="Default: 1.")]
NumGPUsOption = Annotated[float | None, option(ReplicaOptions, "num_gpus", "--num-gpus", note="Default: 0.")]
