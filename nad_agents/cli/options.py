"""The options of the command line, made of the fields of the configs, and those that several commands share."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic import BaseModel
from rich.markup import escape

from nad_agents.config_fields import bounds, description
from nad_agents.types import NADConfig, SamplingConfig

__all__ = [
    "DEFAULT_MODEL",
    "NAD",
    "REPEATABLE",
    "SAMPLING",
    "DeviceOption",
    "DtypeOption",
    "MaxNewTokensOption",
    "ModelOption",
    "NOption",
    "SandboxKind",
    "ScoreOption",
    "SelectorOption",
    "SelectorsOption",
    "SimilarityOption",
    "TemperatureOption",
    "TimeoutOption",
    "TopKOption",
    "TopPOption",
    "WorkersOption",
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


def _interval(limits: dict[str, float]) -> str:
    """Return bounds as typer shows its own, such as ``[x>=1]`` or ``[0<=x<=1]``; nothing without bounds."""
    low = next((f"{limits[name]}{sign}x" for name, sign in (("gt", "<"), ("ge", "<=")) if name in limits), "x")
    high = next((f"{sign}{limits[name]}" for name, sign in (("lt", "<"), ("le", "<=")) if name in limits), "")
    if not high:
        low = next((f"x{sign}{limits[name]}" for name, sign in (("gt", ">"), ("ge", ">=")) if name in limits), "")
    return f"[{low}{high}]" if low or high else ""


ModelOption = Annotated[str, typer.Option("--model", "-m", help="Hub id, local folder or GGUF file.")]
DeviceOption = Annotated[str, typer.Option(help="Device of the model: auto, cpu, cuda, mps ...")]
DtypeOption = Annotated[str, typer.Option(help="Type of the weights: auto, float32, bfloat16, float16 or int8.")]

NOption = Annotated[int, option(SamplingConfig, "n", "--n", "-n")]
MaxNewTokensOption = Annotated[int, option(SamplingConfig, "max_new_tokens")]
TemperatureOption = Annotated[float, option(SamplingConfig, "temperature", "--temperature", "-t")]
TopPOption = Annotated[float, option(SamplingConfig, "top_p")]
TopKOption = Annotated[int, option(SamplingConfig, "top_k")]

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

SelectorsOption = Annotated[str, typer.Option(help="Selectors to compare, such as knn,mean_logprob; all compares all.")]
WorkersOption = Annotated[
    int, typer.Option(min=1, help="Programs that are checked, and problems that are compared, at the same time.")
]
TimeoutOption = Annotated[float, typer.Option(min=0.1, help="Seconds that a program and its tests may take.")]
