"""The plugin that vLLM loads in each of its processes, by the entry point `nad_agents` of `vllm.general_plugins`.

It changes nothing until a worker has loaded its model. Then, before vLLM profiles, compiles and captures the model, it
adds to the forward pass a copy of each down projection's input, and wraps the model's runner (see
`nad_agents.engine.vllm.model_runners`).
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

import torch

from nad_agents.engine.vllm.activation_buffer import ActivationBuffer
from nad_agents.engine.vllm.feed_forwards import find_down_projections
from nad_agents.engine.vllm.model_runners import check_runner, wrap_runner
from nad_agents.engine.vllm.worker_recorder import RecordedModel, WorkerRecorder
from nad_agents.exceptions import UnsupportedModelError

__all__ = ["register"]

_GRAPH_VERSION = "nad_agents-2"
"""Part of the key of vLLM's compile cache, since the copies are part of the compiled model."""

_UNKNOWN_ROWS = (
    "pipeline_parallel_size",
    "data_parallel_size",
    "prefill_context_parallel_size",
    "decode_context_parallel_size",
)
"""Numbers of workers that divide a model's layers, its requests or its tokens, and not each layer."""

_LOGGER = logging.getLogger("vllm.nad_agents")


def register() -> None:
    """Prepare this process's workers for recording; vLLM calls this function at least once in each of its processes."""
    from vllm.config import VllmConfig
    from vllm.v1.worker.worker_base import WorkerWrapperBase

    if getattr(WorkerWrapperBase.init_device, "_nad_agents", False):
        return
    init_device = WorkerWrapperBase.init_device
    compute_hash = VllmConfig.compute_hash

    @functools.wraps(init_device)
    def init_device_and_wrap(self: Any) -> None:
        init_device(self)
        _record_after_loading(self.worker)

    @functools.wraps(compute_hash)
    def salted_hash(self: Any, *args: Any, **options: Any) -> str:
        return f"{compute_hash(self, *args, **options)[:-4]}{_salt()}"

    init_device_and_wrap._nad_agents = True  # type: ignore[attr-defined]
    WorkerWrapperBase.init_device = init_device_and_wrap
    VllmConfig.compute_hash = salted_hash


def _salt() -> str:
    from hashlib import sha256

    return sha256(_GRAPH_VERSION.encode()).hexdigest()[:4]


def _record_after_loading(worker: Any) -> None:
    """Install the recorder as soon as the worker's runner has loaded the model."""
    runner = worker.model_runner
    load_model = runner.load_model

    @functools.wraps(load_model)
    def load_and_install(*args: Any, **options: Any) -> Any:
        result = load_model(*args, **options)
        recorder = WorkerRecorder(_recorded_model(worker))
        if recorder.records:
            wrap_runner(runner, recorder)
        # the engine calls these names through vLLM's collective_rpc
        worker.nad_describe = recorder.describe
        worker.nad_take = recorder.take
        worker.nad_forget = recorder.forget
        return result

    runner.load_model = load_and_install


def _recorded_model(worker: Any) -> RecordedModel:
    """Add the copies to the worker's model, or give the reason why that is impossible."""
    config, runner = worker.vllm_config, worker.model_runner
    text = config.model_config.hf_text_config
    try:
        _check_configuration(config)
        check_runner(runner)
    except UnsupportedModelError as error:
        _LOGGER.info("neither neurons nor signals are recorded: %s", error)
        return RecordedModel(refusal=str(error), signals=False)
    try:
        projections = find_down_projections(
            runner.get_model(),
            n_layers=getattr(text, "num_hidden_layers", 0),
            hidden_size=getattr(text, "hidden_size", 0),
        )
    except UnsupportedModelError as error:
        _LOGGER.info("neurons are not recorded: %s", error)
        return RecordedModel(refusal=str(error))
    buffer = ActivationBuffer(
        projections,
        max_rows=config.scheduler_config.max_num_seqs,
        dtype=config.model_config.dtype,
        device=worker.device,
    )
    return RecordedModel(
        widths=tuple(one.d_ff for one in projections),
        buffer=buffer,
        first_neurons=tuple(one.first_neuron for one in projections),
        gather=_gather(config.parallel_config.tensor_parallel_size),
    )


def _check_configuration(config: Any) -> None:
    """Refuse settings of vLLM under which the recorder cannot assign rows to requests.

    Raises:
        UnsupportedModelError: A setting does not allow recording; the message names it.
    """
    if config.model_config.runner_type != "generate":
        # such a model serves embeddings or scores, and this plugin only happens to be installed beside it
        msg = f"{config.model_config.model} generates no text, so nothing of it is recorded; choose a model that does"
        raise UnsupportedModelError(msg)
    parallel = config.parallel_config
    refusals = {
        "speculative_config": config.speculative_config is not None,
        "kv_sharing_fast_prefill": getattr(config.cache_config, "kv_sharing_fast_prefill", False),
        "enable_dbo": getattr(parallel, "use_ubatching", False),
        "enable_batch_sharded_sampling": getattr(parallel, "enable_batch_sharded_sampling", False),
        # only the first worker, or the first engine, is asked for what has been recorded
        **{name: getattr(parallel, name, 1) > 1 for name in _UNKNOWN_ROWS},
    }
    for name, refused in refusals.items():
        if refused:
            msg = (
                f"neurons and signals are not recorded with vLLM's {name}; start vLLM without it, or set record=False "
                "with a selector that reads neither, such as mean_logprob or majority"
            )
            raise UnsupportedModelError(msg)


def _gather(tensor_parallel_size: int) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """Return the function that collects the parts of all tensor-parallel workers; None if there is one."""
    if tensor_parallel_size == 1:
        return None
    from vllm.distributed import tensor_model_parallel_all_gather

    return lambda part: tensor_model_parallel_all_gather(part, dim=-1)
