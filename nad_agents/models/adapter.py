"""Apply LoRA adapters of PEFT: merged into a model's weights, or beside them, so that several share one model.

A merged adapter costs nothing at decoding. An adapter beside the weights costs two narrow matrix products per adapted
layer, and only its own memory: each adapter gets its own module objects around the same weights, so decoders with
different adapters may run at the same time.
"""

from __future__ import annotations

import copy
import importlib.util
import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import PreTrainedModel

from nad_agents.exceptions import MissingDependencyError, ModelLoadError, UnsupportedModelError
from nad_agents.models.error_text import one_line_error
from nad_agents.models.folder import looks_like_path
from nad_agents.models.hub import check_repo_id, fetch_file

__all__ = ["Adapter", "add_adapter", "find_adapter", "merge_adapter", "sharing_copy"]

_CONFIG = "adapter_config.json"


@dataclass(frozen=True)
class Adapter:
    """An adapter that has been found and can be applied.

    Attributes:
        target: The folder or hub id that PEFT loads the adapter from.
        name: Short name for display.
        rank: Highest rank of the adapter's matrices.
    """

    target: str
    name: str
    rank: int


def find_adapter(adapter: str | Path, *, needs_peft: bool = True) -> Adapter:
    """Find an adapter and check that it can be applied, before any weights are read.

    Args:
        adapter: A folder with an `adapter_config.json`, or a hub id; an existing folder takes precedence.
        needs_peft: Whether PEFT is to apply the adapter; vLLM applies adapters by itself.

    Raises:
        MissingDependencyError: PEFT is needed and not installed.
        ModelLoadError: The adapter does not exist, or its config is damaged.
        UnsupportedModelError: The adapter is not a LoRA adapter of a language model.
    """
    if needs_peft and importlib.util.find_spec("peft") is None:
        msg = f'adapter={str(adapter)!r} needs the package peft; run: pip install "nad-agents[peft]"'
        raise MissingDependencyError(msg)
    path = Path(adapter).expanduser()
    if path.is_dir():
        folder, target, name = path, str(path), path.resolve().name
    elif path.is_file():
        msg = f"the adapter {path} is a file; give the folder that PEFT saved, or a hub id"
        raise ModelLoadError(msg)
    elif isinstance(adapter, Path) or looks_like_path(adapter) or not adapter.strip():
        msg = f"there is no folder {path} with an adapter; give a folder that PEFT saved, or a hub id"
        raise ModelLoadError(msg)
    else:
        check_repo_id(adapter, "adapter")
        folder = fetch_file(adapter, _CONFIG, None, kind="adapter")
        target, name = adapter, adapter.rsplit("/", 1)[-1]
    return Adapter(target, name, _checked_rank(folder / _CONFIG, adapter))


def _checked_rank(path: Path, adapter: str | Path) -> int:
    """Check an adapter's config, and return the highest rank of its matrices."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        kind, task = str(config["peft_type"]), config.get("task_type")
        rank = max([int(config.get("r", 8)), *map(int, (config.get("rank_pattern") or {}).values())])
    except FileNotFoundError as error:
        msg = f"{adapter} has no {_CONFIG}; give a folder that PEFT saved (model.save_pretrained)"
        raise ModelLoadError(msg) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        msg = (
            f"the config of the adapter {adapter} cannot be read: {one_line_error(error)}; "
            "give a folder that PEFT saved (model.save_pretrained)"
        )
        raise ModelLoadError(msg) from error
    if kind != "LORA":
        msg = f"the adapter {adapter} is of the type {kind}, not LORA; merge it into its model and save that"
        raise UnsupportedModelError(msg)
    if task not in {None, "CAUSAL_LM"}:
        msg = f"the adapter {adapter} was trained for the task {task}; use one for CAUSAL_LM"
        raise UnsupportedModelError(msg)
    return rank


def add_adapter(model: PreTrainedModel, adapter: Adapter) -> PreTrainedModel:
    """Put an adapter beside a model's weights, in place, and return the model itself.

    Args:
        model: The model, without an adapter.
        adapter: The adapter.

    Raises:
        ModelLoadError: The adapter does not fit the model, or its weights are absent or damaged.
    """
    adapted: Any = _with_adapter(model, adapter)
    inner: PreTrainedModel = adapted.get_base_model()
    inner.requires_grad_(requires_grad=False)
    return inner


def merge_adapter(model: PreTrainedModel, adapter: Adapter) -> PreTrainedModel:
    """Merge an adapter into a model's weights, in place.

    Args:
        model: The model, without an adapter.
        adapter: The adapter.

    Raises:
        ModelLoadError: The adapter does not fit the model, or its weights are absent or damaged.
    """
    adapted: Any = _with_adapter(model, adapter)
    try:
        merged: PreTrainedModel = adapted.merge_and_unload(safe_merge=True)
    except (ValueError, NotImplementedError) as error:
        msg = f"the adapter {adapter.name} cannot be merged: {one_line_error(error)}"
        raise ModelLoadError(msg) from error
    return merged


def _with_adapter(model: PreTrainedModel, adapter: Adapter) -> Any:
    from peft import PeftModel

    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            adapted = PeftModel.from_pretrained(model, adapter.target, is_trainable=False)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        msg = f"the adapter {adapter.name} cannot be applied: {one_line_error(error)}"
        raise ModelLoadError(msg) from error
    missing = next((str(w.message) for w in caught if "missing adapter keys" in str(w.message)), None)
    if missing is not None:
        msg = (
            f"the adapter {adapter.name} lacks weights that its config asks for: {one_line_error(ValueError(missing))}"
        )
        raise ModelLoadError(msg)
    return adapted.eval()


def sharing_copy(model: PreTrainedModel) -> PreTrainedModel:
    """Return a copy of a model that has its own module objects and shares the weights in memory."""
    shared: dict[int, Any] = {}
    for module in model.modules():
        # bitsandbytes also keeps weights in an object next to the parameters
        beside = getattr(getattr(module, "state", None), "__dict__", {})
        parts = [*module._parameters.values(), *module._buffers.values(), *beside.values()]
        shared |= {id(part): part for part in parts if isinstance(part, torch.Tensor)}
    return copy.deepcopy(model, shared)
