"""The plugin on runners that advance a small model as vLLM's two runners do: rows, positions, preemption, prefill."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from nad_agents.engine.hf.signals import token_signals
from nad_agents.engine.vllm.activation_buffer import ActivationBuffer
from nad_agents.engine.vllm.feed_forwards import find_down_projections
from nad_agents.engine.vllm.model_runners import check_runner, wrap_runner
from nad_agents.engine.vllm.plugin import _check_configuration
from nad_agents.engine.vllm.request_options import EXTRA_ARG, RequestOptions
from nad_agents.engine.vllm.worker_recorder import RecordedModel, WorkerRecorder
from nad_agents.exceptions import UnsupportedModelError
from nad_agents.neurons.recording_config import RecordingConfig
from nad_agents.neurons.top_k import LayerScores, top_neurons
from tests.unit.engine.vllm.layers import HIDDEN, WIDTH, Block, Model

OPTIONS = RequestOptions.of(RecordingConfig(top_k_neurons=6, top_k_neurons_per_layer=4))


class Runner:
    """Computes tokens of several requests in one forward pass; a token's embedding is its own random vector."""

    def __init__(self):
        self.model = Model([Block(), Block()])
        self.tokens, self.computed, self.prompts = {}, {}, {}

    def get_model(self):
        return self.model

    def execute_model(self, scheduler_output):
        for new in scheduler_output.scheduled_new_reqs:
            self.tokens.setdefault(new.req_id, torch.randn(40, HIDDEN))
            self.prompts[new.req_id] = new.prompt_len
            self.computed[new.req_id] = 0
        scheduled = scheduler_output.num_scheduled_tokens
        order = sorted(scheduled, key=lambda name: scheduled[name])
        rows = self.prepare(scheduler_output, order, np.array([scheduled[name] for name in order]))
        inputs = [self.tokens[n][self.computed[n] : self.computed[n] + scheduled[n]] for n in order]
        hidden = self.model(torch.cat(inputs))
        logits = self.model.compute_logits(hidden[rows])
        for name in order:
            self.computed[name] += scheduled[name]
        return logits


class RunnerV1(Runner):
    def prepare(self, scheduler_output, order, scheduled):
        self.input_batch = SimpleNamespace(
            num_reqs=len(order),
            req_ids=order,
            num_computed_tokens_cpu=np.array([self.computed[n] for n in order] + [99]),
            num_prompt_tokens=np.array([self.prompts[n] for n in order] + [99]),
        )
        return self._prepare_inputs(scheduler_output, scheduled)[0]

    def _prepare_inputs(self, scheduler_output, scheduled):
        return torch.from_numpy(np.cumsum(scheduled) - 1), None, 1


class RunnerV2(Runner):
    def prepare(self, scheduler_output, order, scheduled):
        return self.prepare_inputs(scheduler_output, order, scheduled).logits_indices

    def prepare_inputs(self, scheduler_output, order, scheduled):
        return SimpleNamespace(
            req_ids=order,
            num_computed_tokens_np=np.array([self.computed[n] for n in order]),
            num_scheduled_tokens=scheduled,
            logits_indices=torch.from_numpy(np.cumsum(scheduled) - 1),
        )


@pytest.fixture(params=[RunnerV1, RunnerV2])
def runner(request):
    torch.manual_seed(0)
    return request.param()


@pytest.fixture
def recorder(runner):
    projections = find_down_projections(runner.model, n_layers=2, hidden_size=HIDDEN)
    buffer = ActivationBuffer(projections, max_rows=4, dtype=torch.float32, device=torch.device("cpu"))
    recorder = WorkerRecorder(RecordedModel((WIDTH, WIDTH), buffer, (0, 0)))
    wrap_runner(runner, recorder)
    return recorder


def new(name, prompt_len, options=OPTIONS):
    extra = None if options is None else {EXTRA_ARG: options.model_dump_json()}
    return SimpleNamespace(req_id=name, prompt_len=prompt_len, sampling_params=SimpleNamespace(extra_args=extra))


def step(runner, scheduled, *, arriving=(), finished=()):
    with torch.inference_mode():
        return runner.execute_model(
            SimpleNamespace(
                scheduled_new_reqs=list(arriving), num_scheduled_tokens=scheduled, finished_req_ids=set(finished)
            )
        )


def expected(runner, name, first, tokens):
    """Neurons and signals of positions of a request, computed for it alone."""
    model = Model(list(runner.model.layers))
    hidden, activations = runner.tokens[name][:], []
    with torch.inference_mode():
        for block in model.layers:
            inner = block.fc1(hidden).relu()
            activations.append(inner)
            hidden = hidden + inner @ block.fc2.weight.T
        logits = runner.model.head(hidden)
    at = slice(runner.prompts[name] - 1 + first, runner.prompts[name] - 1 + first + tokens)
    ids = top_neurons([LayerScores(a[at].contiguous()) for a in activations], 4, 6, WIDTH, magnitudes=True)
    return ids.numpy(), token_signals(logits[at])


def assert_recorded(runner, recorder, name, first, tokens):
    found = recorder.take([name])[name]
    assert (found["start"], found["tokens"]) == (first, tokens)
    neurons = np.frombuffer(found["neurons"], np.int32).reshape(tokens, -1)
    wanted, signals = expected(runner, name, first, tokens)
    assert [set(row) for row in neurons.tolist()] == [set(row) for row in wanted.tolist()]
    got = np.frombuffer(found["signals"], np.float32).reshape(tokens, 3)
    np.testing.assert_allclose(got[:, 0], signals.entropy, atol=1e-5)
    np.testing.assert_allclose(got[:, 1], signals.self_certainty, atol=1e-5)
    np.testing.assert_allclose(got[:, 2], signals.confidence, atol=1e-5)


def test_each_row_goes_to_the_request_that_emits_it(runner, recorder):
    step(runner, {"a": 5, "b": 3}, arriving=[new("a", 5), new("b", 3)])
    step(runner, {"a": 1, "b": 1})
    step(runner, {"b": 1, "a": 1})
    assert_recorded(runner, recorder, "a", 0, 3)
    assert_recorded(runner, recorder, "b", 0, 3)
    step(runner, {"a": 1})
    assert_recorded(runner, recorder, "a", 3, 1)
    assert recorder.take(["b"])["b"]["tokens"] == 0


def test_a_prompt_read_in_parts_counts_from_its_last_token_on(runner, recorder):
    step(runner, {"a": 4}, arriving=[new("a", 10)])
    step(runner, {"a": 4, "b": 2}, arriving=[new("b", 2)])
    assert recorder.take(["a"])["a"]["tokens"] == 0
    step(runner, {"a": 2, "b": 1})
    assert_recorded(runner, recorder, "a", 0, 1)
    assert_recorded(runner, recorder, "b", 0, 2)


def test_a_preempted_request_repeats_positions(runner, recorder):
    step(runner, {"a": 3}, arriving=[new("a", 3)])
    step(runner, {"a": 1})
    assert_recorded(runner, recorder, "a", 0, 2)
    step(runner, {"a": 1})
    # it lost its cache and is computed again: prompt and answer, in two parts
    runner.computed["a"] = 0
    arriving = [new("a", 3)] if isinstance(runner, RunnerV2) else []
    step(runner, {"a": 4}, arriving=arriving)
    step(runner, {"a": 2})
    step(runner, {"a": 1})
    assert_recorded(runner, recorder, "a", 2, 3)


def test_requests_that_do_not_ask_are_not_recorded(runner, recorder):
    step(
        runner,
        {"a": 3, "b": 3, "c": 3},
        arriving=[new("a", 3, None), new("b", 3), new("c", 3, RequestOptions(record=False))],
    )
    found = recorder.take(["a", "b", "c"])
    assert set(found) == {"b", "c"}
    assert found["c"]["neurons"] == b""
    assert len(found["c"]["signals"]) == 3 * 4


def test_where_nobody_asks_nothing_is_copied(runner, recorder):
    step(runner, {"a": 3}, arriving=[new("a", 3, None)])
    assert all(not slot.any() for slot in recorder._model.buffer.slots)


def test_requests_without_options_cost_nothing_but_a_look_at_a_switch(runner, recorder, monkeypatch):
    def unwanted(*_, **__):
        pytest.fail("something was computed for a request that asks for nothing")

    for name in ("step_neurons", "token_signals"):
        monkeypatch.setattr(f"nad_agents.engine.vllm.worker_recorder.{name}", unwanted)
    monkeypatch.setattr(torch, "index_select", unwanted)
    step(runner, {"a": 3}, arriving=[new("a", 3, None)])
    step(runner, {"a": 1})
    assert recorder.take(["a"]) == {}
    assert not recorder._records
    assert not recorder._keys


def test_beside_a_request_that_records_the_others_are_not_computed(runner, recorder, monkeypatch):
    computed = []
    real = RecordedModel.neurons

    def counted(model, rows, config):
        neurons = real(model, rows, config)
        computed.append(len(neurons))
        return neurons

    monkeypatch.setattr(RecordedModel, "neurons", counted)
    arriving = [new("a", 3, None), new("b", 3), new("c", 3, RequestOptions(record=False)), new("d", 3, None)]
    step(runner, dict.fromkeys("abcd", 3), arriving=arriving)
    assert computed == [1]
    assert_recorded(runner, recorder, "b", 0, 1)


def test_options_that_cannot_be_read_harm_nobody(runner, recorder):
    bad = new("a", 3)
    bad.sampling_params.extra_args = {EXTRA_ARG: '{"topk": 5}'}
    step(runner, {"a": 3, "b": 3}, arriving=[bad, new("b", 3)])
    assert set(recorder.take(["a", "b"])) == {"b"}


def test_what_ended_stays_until_it_is_taken_or_forgotten(runner, recorder):
    step(runner, {"a": 3, "b": 3}, arriving=[new("a", 3), new("b", 3)])
    step(runner, {"b": 1}, finished=["a"])
    assert_recorded(runner, recorder, "a", 0, 1)
    recorder.forget(["a", "b"])
    assert recorder.take(["a", "b"]) == {}


def test_the_oldest_requests_that_nobody_takes_are_forgotten(runner, recorder, monkeypatch):
    monkeypatch.setattr("nad_agents.engine.vllm.worker_recorder._KEPT_REQUESTS", 2)
    names = ["a", "b", "c"]
    step(runner, dict.fromkeys(names, 3), arriving=[new(name, 3) for name in names])
    step(runner, {"d": 1}, arriving=[new("d", 1)], finished=["a"])
    step(runner, {"d": 1}, finished=["b"])
    step(runner, {"d": 1}, finished=["c"])
    assert set(recorder.take(names)) == {"b", "c"}


def test_layers_and_limits_of_each_request_hold_for_it(runner, recorder):
    one = RequestOptions.of(RecordingConfig(top_k_neurons=2, top_k_neurons_per_layer=2, layers=(1, 2)))
    step(runner, {"a": 3, "b": 3}, arriving=[new("a", 3), new("b", 3, one)])
    found = recorder.take(["a", "b"])
    assert len(found["a"]["neurons"]) == 6 * 4
    ids = np.frombuffer(found["b"]["neurons"], np.int32)
    assert len(ids) == 2
    assert ids.max() < WIDTH


def settings():
    parallel = SimpleNamespace(pipeline_parallel_size=1, decode_context_parallel_size=1, data_parallel_size=1)
    return SimpleNamespace(
        speculative_config=None,
        parallel_config=parallel,
        cache_config=SimpleNamespace(),
        model_config=SimpleNamespace(runner_type="generate", model="tiny"),
    )


@pytest.mark.parametrize(
    ("part", "name", "attribute"),
    [
        ("", "speculative_config", "speculative_config"),
        ("parallel_config", "pipeline_parallel_size", "pipeline_parallel_size"),
        ("parallel_config", "data_parallel_size", "data_parallel_size"),
        ("parallel_config", "prefill_context_parallel_size", "prefill_context_parallel_size"),
        ("parallel_config", "decode_context_parallel_size", "decode_context_parallel_size"),
        ("parallel_config", "enable_batch_sharded_sampling", "enable_batch_sharded_sampling"),
        ("parallel_config", "enable_dbo", "use_ubatching"),
        ("cache_config", "kv_sharing_fast_prefill", "kv_sharing_fast_prefill"),
    ],
)
def test_settings_under_which_rows_would_not_fit_are_refused_by_name(part, name, attribute):
    config = settings()
    _check_configuration(config)
    setattr(getattr(config, part) if part else config, attribute, 2)
    with pytest.raises(UnsupportedModelError, match=f"not recorded with vLLM's {name}; start vLLM without it"):
        _check_configuration(config)


def test_a_model_that_generates_no_text_is_left_alone():
    config = settings()
    config.model_config.runner_type = "pooling"
    with pytest.raises(UnsupportedModelError, match="tiny generates no text"):
        _check_configuration(config)


@pytest.mark.parametrize("missing", ["logits_indices", "prepare_inputs", "num_prompt_tokens"])
def test_a_runner_of_another_version_is_refused_by_name(missing, monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(__version__="9.9"))

    class Batch:
        req_ids: list
        num_computed_tokens_np: np.ndarray
        num_scheduled_tokens: np.ndarray

    class Runner:
        if missing == "logits_indices":

            def prepare_inputs(self) -> Batch: ...

        if missing == "num_prompt_tokens":
            input_batch = SimpleNamespace(num_reqs=0, req_ids=(), num_computed_tokens_cpu=())

            def _prepare_inputs(self): ...

    with pytest.raises(UnsupportedModelError, match=rf"Runner of vLLM 9\.9, which has no {missing}; install a version"):
        check_runner(Runner())


def test_nothing_at_all_is_recorded_where_rows_are_unknown():
    recorder = WorkerRecorder(RecordedModel(refusal="no", signals=False))
    assert not recorder.records
    assert recorder.describe() == {"widths": [], "refusal": "no", "signals": False}
