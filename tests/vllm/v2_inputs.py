"""Drive the input preparation of vLLM's V2 runner on a CPU, and print what the recorder stores; run as a program.

The runner needs a GPU, but not the part that the recorder relies on: which row of a step emits which token of which
request. Its Triton kernels run in Triton's interpreter, which has to be chosen before vLLM is imported.
"""

# ruff: noqa: E402 - Triton has to be set up before vLLM is imported

import json
import os
import sys
from types import SimpleNamespace

os.environ.update(TRITON_INTERPRET="1", VLLM_LOGGING_LEVEL="ERROR")

import triton.backends


class Interpreter:
    """Stands for the driver of a device, which the interpreter does without."""

    @staticmethod
    def is_active():
        return True


triton.backends.backends["cpu"] = triton.backends.Backend(compiler=None, driver=Interpreter)

import numpy as np
import torch
from vllm.v1.core.sched.output import NewRequestData
from vllm.v1.worker.gpu import buffer_utils
from vllm.v1.worker.gpu.input_batch import InputBuffers
from vllm.v1.worker.gpu.model_runner import BatchReqState, GPUModelRunner
from vllm.v1.worker.gpu.states import RequestState

from nad_agents.engine.vllm.activation_buffer import ActivationBuffer
from nad_agents.engine.vllm.feed_forwards import DownProjection
from nad_agents.engine.vllm.model_runners import check_runner, wrap_runner
from nad_agents.engine.vllm.request_options import EXTRA_ARG, RequestOptions
from nad_agents.engine.vllm.worker_recorder import RecordedModel, WorkerRecorder

WIDTH = 16
# without a GPU there is no memory that both sides address
buffer_utils.is_uva_available = lambda: False


class Model(torch.nn.Module):
    """A layer whose neuron t alone is activated at row t of a step, so that a recorded id names the row."""

    def __init__(self):
        super().__init__()
        self.down = torch.nn.Linear(WIDTH, 2)

    def forward(self, rows):
        return self.down(torch.eye(WIDTH)[:rows])

    def compute_logits(self, hidden):
        return torch.zeros(len(hidden), 8)


class Runner(GPUModelRunner):
    """The V2 runner with its own `prepare_inputs`, and a step that runs it and the model as the real one does."""

    def __init__(self):
        device = torch.device("cpu")
        self.device, self.max_num_reqs, self.decode_query_len = device, 8, 1
        self.input_buffers = InputBuffers(8, 64, device)
        self.req_states = RequestState(8, 64, 64, 0, 100, device)
        self.model_state = SimpleNamespace(num_new_sampled_tokens_per_step=1)
        self.model_config = SimpleNamespace(rswa_window=None)
        self.adaptive_verification = self.fast_prefill = self.pcp_manager = None
        self.model = Model()

    def get_model(self):
        return self.model

    def execute_model(self, scheduled):
        states, tokens = self.req_states, scheduled.num_scheduled_tokens
        for new in scheduled.scheduled_new_reqs:
            states.remove_request(new.req_id)
            states.add_request(new.req_id, new.prompt_len, new.prefill_token_ids, new.num_computed_tokens, 16)
        states.apply_staged_writes()
        at = np.array([states.req_id_to_index[name] for name in tokens])
        counts, read = np.array(list(tokens.values()), np.int32), states.num_computed_prefill_tokens[at]
        lengths = states.prefill_len.np[at]
        prepared = BatchReqState(
            req_ids=list(tokens),
            num_scheduled_tokens=counts,
            num_tokens=int(counts.sum()),
            num_draft_tokens_np=None,
            idx_mapping_np=at,
            prefill_len_np=lengths,
            num_computed_prefill_tokens_np=read,
            is_prefilling_np=read < lengths,
            max_seq_len_np=None,
            has_prefill=bool((read < lengths).any()),
            prefill_runs_as_decode_np=None,
            decode_graph_eligible=False,
        )
        # more rows than tokens, as in a captured graph
        graph = SimpleNamespace(num_tokens=int(counts.sum()) + 2, num_reqs=None)
        batch = self.prepare_inputs(scheduled, prepared, graph, 0)
        hidden = self.model(batch.num_tokens_after_padding)
        self.model.compute_logits(hidden[batch.logits_indices])
        states.num_computed_tokens_np[at] += counts
        states.num_computed_tokens.gpu[at] += torch.tensor(counts)
        states.num_computed_prefill_tokens[at] = np.minimum(read + counts, lengths)


def main():
    runner = Runner()
    check_runner(runner)
    down = DownProjection(0, runner.model.down, WIDTH, WIDTH)
    buffer = ActivationBuffer([down], max_rows=8, dtype=torch.float32, device=torch.device("cpu"))
    recorder = WorkerRecorder(RecordedModel(widths=(WIDTH,), buffer=buffer, first_neurons=(0,)))
    wrap_runner(runner, recorder)
    options = RequestOptions(top_k_neurons=1, top_k_neurons_per_layer=1).model_dump_json()

    def step(tokens, **new):
        entering = [
            NewRequestData(
                req_id=name,
                prompt_token_ids=list(range(prompt)),
                mm_features=[],
                sampling_params=SimpleNamespace(extra_args={EXTRA_ARG: options}),
                pooling_params=None,
                block_ids=([],),
                num_computed_tokens=0,
                lora_request=None,
                prefill_token_ids=list(range(whole)),
            )
            for name, (prompt, whole) in new.items()
        ]
        runner.execute_model(
            SimpleNamespace(
                scheduled_new_reqs=entering,
                finished_req_ids=set(),
                num_scheduled_tokens=tokens,
                scheduled_spec_decode_tokens={},
                has_structured_output_requests=False,
            )
        )

    # 1. c reads its prompt, a the first three of its five tokens
    step({"c": 4, "a": 3}, c=(4, 4), a=(5, 5))
    # 2. c generates, a reads the rest
    step({"c": 1, "a": 2})
    # 3. c has been preempted, and reads its prompt and its answer again in two parts
    step({"a": 1, "c": 4}, c=(4, 6))
    step({"a": 1, "c": 2})
    found = recorder.take(["a", "c"])
    rows = {name: np.frombuffer(one["neurons"], np.int32).tolist() for name, one in found.items()}
    json.dump(rows, sys.stdout)


if __name__ == "__main__":
    main()
