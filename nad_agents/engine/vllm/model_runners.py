"""Wrap vLLM's model runners, so that the recorder knows which row emits which token of which request.

Three methods are wrapped:

1. `execute_model`, whose argument shows which requests enter and leave the batch
2. the preparation of a step's inputs, which determines which row emits which token of which request
3. the model's `compute_logits`, before which the activations of these rows have been copied

Both of vLLM's runners have them: V1 (`vllm.v1.worker.gpu_model_runner`, and its subclass for CPUs) and V2
(`vllm.v1.worker.gpu.model_runner`, which vLLM chooses on GPUs, or wherever VLLM_USE_V2_MODEL_RUNNER=1 is set).
"""

from __future__ import annotations

import functools
import inspect
import sys
from typing import Any

import numpy as np

from nad_agents.engine.vllm.worker_recorder import WorkerRecorder, emitted_positions
from nad_agents.exceptions import UnsupportedModelError

__all__ = ["check_runner", "wrap_runner"]

_V1_BATCH = ("num_reqs", "req_ids", "num_computed_tokens_cpu", "num_prompt_tokens")
"""Attributes of V1's `input_batch` that are read in each step."""

_V2_BATCH = ("req_ids", "num_computed_tokens_np", "num_scheduled_tokens", "logits_indices")
"""Fields of V2's `InputBatch`, the result of `prepare_inputs`."""


def check_runner(runner: Any) -> None:
    """Refuse a runner of a version of vLLM that differs in what the recorder relies on.

    Raises:
        UnsupportedModelError: The runner is of neither known kind, or lacks something; the message names it.
    """
    if hasattr(runner, "_prepare_inputs"):
        missing = [name for name in _V1_BATCH if not hasattr(runner.input_batch, name)]
    elif hasattr(runner, "prepare_inputs"):
        missing = [name for name in _V2_BATCH if name not in _fields_of_result(runner.prepare_inputs)]
    else:
        missing = ["prepare_inputs"]
    if missing:
        import vllm

        kind = f"{type(runner).__module__}.{type(runner).__qualname__}"
        msg = (
            f"neurons and signals are not recorded by {kind} of vLLM {vllm.__version__}, which has no {missing[0]}; "
            "install a version of vLLM that nad_agents is tested with, or set record=False with a selector that reads "
            "neither, such as mean_logprob or majority"
        )
        raise UnsupportedModelError(msg)


def _fields_of_result(method: Any) -> set[str]:
    """Return the field names of the class that stands in a method's return annotation."""
    result = inspect.signature(method).return_annotation
    if isinstance(result, str):
        result = getattr(sys.modules[method.__module__], result)
    return set(inspect.get_annotations(result))


def wrap_runner(runner: Any, recorder: WorkerRecorder) -> None:
    """Let a runner tell the recorder of its requests, rows and logits.

    Args:
        runner: The runner, with its model loaded.
        recorder: The recorder.
    """
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
