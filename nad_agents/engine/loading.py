"""Load a model into the engine that the caller names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from nad_agents.engine.base import Engine
from nad_agents.engine.served_model import ServedModel
from nad_agents.exceptions import ConfigurationError
from nad_agents.models import LoadedModel, load_model
from nad_agents.models.adapter import find_adapter
from nad_agents.types import DEFAULT_ROWS, EngineName

if TYPE_CHECKING:
    import torch

    from nad_agents.engine.hf.options import HFEngineOptions

__all__ = ["load_engine", "with_adapter"]

_AT_A_SERVER = (
    "adapter={adapter!r} cannot be sent to a server; load it there, and name the model that has it; for vLLM: vllm "
    "serve ... --enable-lora --lora-modules NAME={adapter}, and engine_options={{'served_name': 'NAME'}} here"
)


def load_engine(
    name: EngineName,
    model: str | Path | LoadedModel,
    *,
    adapter: str | Path | None = None,
    device: str,
    dtype: str | torch.dtype,
    max_rows: int | Literal["auto"],
    prefix_bytes: int | None,
    options: Mapping[str, Any],
) -> tuple[LoadedModel | ServedModel, Engine]:
    """Load a model into an engine, importing the engine's packages only now.

    Args:
        name: The engine.
        model: A Hugging Face Hub id, a local folder, a GGUF file, or, for "hf", a loaded model.
        adapter: Folder or hub id of a LoRA adapter, for "hf" and "vllm"; None for none.
        device: "auto", or a torch device.
        dtype: "auto", or a torch dtype or its name.
        max_rows: Greatest number of candidates that are advanced together; "auto" leaves the number to the engine.
        prefix_bytes: Memory for the keys and values of earlier prompts, for "hf"; None lets the engine choose.
        options: Further options of the engine.

    Returns:
        The model that front ends use, and the engine.

    Raises:
        ConfigurationError: The engine does not exist, or it does not accept an option.
        UnsupportedModelError: An option requires what the model's code does not allow.
        ModelLoadError: The model cannot be loaded.
        MissingDependencyError: The engine's package is not installed.
    """
    if name not in get_args(EngineName):
        msg = f"engine={name!r} is unknown; choose one of {', '.join(get_args(EngineName))}"
        raise ConfigurationError(msg)
    if name == "hf":
        from nad_agents.engine.hf.options import HFEngineOptions

        own = HFEngineOptions.parse(options)
        if not isinstance(model, LoadedModel):
            own.check_device(device)
            loaded = load_model(model, device=device, dtype=dtype, adapter=adapter)
        else:
            loaded = model if adapter is None else model.with_adapter(adapter)
        return _start_hf(loaded, prefix_bytes, own)
    if adapter is not None and (name == "openai" or "base_url" in options):
        raise ConfigurationError(_AT_A_SERVER.format(adapter=str(adapter)))
    if isinstance(model, LoadedModel):
        msg = f"{model.name} is loaded already, but engine={name!r} loads a model itself; give its name or path"
        raise ConfigurationError(msg)
    rows = DEFAULT_ROWS if max_rows == "auto" else max_rows
    if name == "openai":
        from nad_agents.engine.openai.start import connect_openai

        connected = connect_openai(model, max_rows=rows, options=options)
        return connected.loaded, connected
    from nad_agents.engine.vllm.start import connect_vllm, start_vllm

    if "base_url" in options:
        server = connect_vllm(model, max_rows=rows, options=options)
        return server.loaded, server
    started = start_vllm(
        model,
        device=device,
        dtype=str(dtype).removeprefix("torch."),
        max_rows=rows,
        adapter=None if adapter is None else find_adapter(adapter, needs_peft=False),
        options=options,
    )
    return started.loaded, started


def with_adapter(
    loaded: LoadedModel | ServedModel,
    engine: Engine,
    adapter: str | Path,
    *,
    prefix_bytes: int | None,
    options: Mapping[str, Any],
) -> tuple[LoadedModel | ServedModel, Engine]:
    """Load a LoRA adapter for a model that an engine already runs, without loading the model's weights again.

    Args:
        loaded: The model.
        engine: The engine that runs the model.
        adapter: Folder or hub id of the adapter.
        prefix_bytes: Memory for the keys and values of earlier prompts, for "hf"; None lets the engine choose.
        options: Options of the engine's own that it was started with.

    Returns:
        The model with the adapter, and the engine that runs it: for "hf" another one, which shares the weights, and for
        "vllm" the same.

    Raises:
        ConfigurationError: The model has an adapter already, or the engine has no room for the adapter or cannot load
            any.
        ModelLoadError: The adapter does not exist, or it does not fit the model.
        UnsupportedModelError: The adapter is not a LoRA adapter.
    """
    if isinstance(loaded, LoadedModel):
        from nad_agents.engine.hf.options import HFEngineOptions

        return _start_hf(loaded.with_adapter(adapter), prefix_bytes, HFEngineOptions.parse(options))
    from nad_agents.engine.vllm.engine import VLLMEngine

    if not isinstance(engine, VLLMEngine):
        raise ConfigurationError(_AT_A_SERVER.format(adapter=str(adapter)))
    return engine.with_adapter(find_adapter(adapter, needs_peft=False)), engine


def _start_hf(loaded: LoadedModel, prefix_bytes: int | None, options: HFEngineOptions) -> tuple[LoadedModel, Engine]:
    from nad_agents.engine.hf.engine import HFEngine

    engine = HFEngine(
        loaded.model, loaded.tokenizer, name=loaded.name, prefix_bytes=prefix_bytes, compile=options.compile
    )
    return loaded, engine
