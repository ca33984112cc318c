"""The plugin that vLLM loads in each of its processes, by the entry point `nad_agents` of `vllm.general_plugins`.

It changes nothing until a worker has loaded its model. Then, before vLLM profiles, compiles and captures the model, it
adds to the forward pass a copy of each down projection's input, and wraps three methods of the model's runner:

1. `execute_model`, whose argument shows which requests enter and leave the batch
2. the preparation of a step's inputs, which determines which row emits which token of which request
3. `compute_logits`, before which the activations of these rows have been copied

Both of vLLM's runners have them: V1 (`vllm.v1.worker.gpu_model_runner`, and its subclass for CPUs) and V2
(`vllm.v1.worker.gpu.model_runner`).
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from nad_agents.engine.vllm.activation_buffer import ActivationBuffer
from nad_agents.engine.vllm.feed_forwards import find_down_projections
from nad_agents.engine.vllm.worker_recorder import RecordedModel, WorkerRecorder, emitted_positions
from nad_agents.exceptions import UnsupportedModelError

__all__ = ["GRAPH_VERSION", "register"]

GRAPH_VERSION = "nad_agents-1"
"""Part of the key of vLLM's compile cache, since the copies are part of the compiled model."""

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

    return sha256(GRAPH_VERSION.encode()).hexdigest()[:4]


def _record_after_loading(worker: Any) -> None:
    """Install the recorder as soon as the worker's runner has loaded the model."""
    runner = worker.model_runner
    load_model = runner.load_model

    @functools.wraps(load_model)
    def load_and_install(*args: Any, **options: Any) -> Any:
        result = load_model(*args, **options)
        recorder = WorkerRecorder(_recorded_model(worker))
        _wrap_runner(runner, recorder)
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
        projections = find_down_projections(
            runner.get_model(), n_layers=text.num_hidden_layers, hidden_size=text.hidden_size
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
    refusals = {
        "speculative_config": config.speculative_config is not None,
        "pipeline_parallel_size": config.parallel_config.pipeline_parallel_size > 1,
        "decode_context_parallel_size": config.parallel_config.decode_context_parallel_size > 1,
        "enable_batch_sharded_sampling": bool(getattr(config.parallel_config, "enable_batch_sharded_sampling", False)),
    }
    for name, refused in refusals.items():
        if refused:
            msg = f"neurons are not recorded with vLLM's {name}; start vLLM without it, or set record=False"
            raise UnsupportedModelError(msg)


def _gather(tensor_parallel_size: int) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """Return the function that collects the parts of all tensor-parallel workers; None if there is one."""
    if tensor_parallel_size == 1:
        return None
    from vllm.distributed import tensor_model_parallel_all_gather

    return lambda part: tensor_model_parallel_all_gather(part, dim=-1)


def _wrap_runner(runner: Any, recorder: WorkerRecorder) -> None:
    execute_model = runner.execute_model
    model = runner.get_model()
    compute_logits = model.compute_logits

    @functools.wraps(execute_model)
    def execute_and_notice(scheduler_output: Any, *args: Any, **options: Any) -> Any:
        for new in scheduler_output.scheduled_new_reqs:
            if new.sampling_params is not None:
                recorder.add_request(new.req_id, new.sampling_params.extra_args, new.prompt_len)
        recorder.end_requests(scheduler_output.finished_req_ids)
        return execute_model(scheduler_output, *args, **options)

    @functools.wraps(compute_logits)
    def compute_and_record(*args: Any, **options: Any) -> Any:
        logits = compute_logits(*args, **options)
        recorder.end_step(logits)
        return logits

    runner.execute_model = execute_and_notice
    model.compute_logits = compute_and_record
    if hasattr(runner, "_prepare_inputs"):
        _wrap_v1_inputs(runner, recorder)
    else:
        _wrap_v2_inputs(runner, recorder)


def _wrap_v1_inputs(runner: Any, recorder: WorkerRecorder) -> None:
    prepare_inputs = runner._prepare_inputs

    @functools.wraps(prepare_inputs)
    def prepare_and_begin(scheduler_output: Any, num_scheduled_tokens: Any, *args: Any, **options: Any) -> Any:
        prepared = prepare_inputs(scheduler_output, num_scheduled_tokens, *args, **options)
        batch = runner.input_batch
        count = batch.num_reqs
        positions = emitted_positions(
            batch.num_computed_tokens_cpu[:count], np.asarray(num_scheduled_tokens), batch.num_prompt_tokens[:count]
        )
        recorder.begin_step(batch.req_ids[:count], positions, prepared[0])
        return prepared

    runner._prepare_inputs = prepare_and_begin


def _wrap_v2_inputs(runner: Any, recorder: WorkerRecorder) -> None:
    prepare_inputs = runner.prepare_inputs

    @functools.wraps(prepare_inputs)
    def prepare_and_begin(*args: Any, **options: Any) -> Any:
        batch = prepare_inputs(*args, **options)
        prompt_lengths = np.array([recorder.prompt_length(request_id) for request_id in batch.req_ids])
        positions = emitted_positions(batch.num_computed_tokens_np, batch.num_scheduled_tokens, prompt_lengths)
        recorder.begin_step(batch.req_ids, positions, batch.logits_indices)
        return batch

    runner.prepare_inputs = prepare_and_begin
