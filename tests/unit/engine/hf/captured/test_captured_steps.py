"""Captured steps give what the model's own steps give, whoever leaves and joins, and else they are not taken."""

import logging
from itertools import count

import numpy as np
import pytest
import torch
from transformers import LogitsProcessor

from nad_agents.engine.hf.captured import captured_steps, self_check
from nad_agents.engine.hf.captured.captured_steps import length_bucket, row_bucket
from nad_agents.engine.hf.engine import HFEngine
from nad_agents.engine.hf.prefix.cache import SharedPrefixCache
from nad_agents.exceptions import ConfigurationError, GenerationError, UnsupportedModelError
from nad_agents.neurons.recording_config import RecordingConfig
from nad_agents.types import SamplingConfig
from tests.captured_steps import assert_same, engine
from tests.generations import ids, run, seeded
from tests.model_families import family_model
from tests.recorded_graphs import RecordedGraphs
from tests.step_trace import StepTrace
from tests.tiny_models import EOS, make_model, tiny_model

FREE = {"temperature": 1.0, "top_k": 0, "top_p": 1.0}
RECORDING = RecordingConfig(top_k_neurons=12, top_k_neurons_per_layer=8)
ONE_LAYER = RecordingConfig("attribution", 9, 5, layers=(1, 2))
LOGGER = captured_steps.__name__

TRIED = 1 + self_check.CHECKED_STEPS
"""Replays of a proof, with the first, which is not timed."""


def replays(recorded):
    return sum(graphs.replayed for graphs in recorded)


def captures(recorded):
    return sum(graphs.captured for graphs in recorded)


def requests_of_all_kinds():
    return [
        seeded(ids("def add(a, b):"), SamplingConfig(n=6, max_new_tokens=40, **FREE), 3, RECORDING),
        seeded(ids("yes"), SamplingConfig(n=3, max_new_tokens=24, **FREE), 4, ONE_LAYER),
        seeded(ids("no"), SamplingConfig(n=5, max_new_tokens=24, **FREE, stop=("a", "e")), 5, RECORDING),
        seeded(ids("why"), SamplingConfig(n=1, temperature=0, max_new_tokens=19), 6),
    ]


class TestCandidatesAreTheSame:
    def test_rows_of_several_requests_that_end_at_different_times(self, recorded):
        model = tiny_model()
        own = run(engine(model, compile=False), *requests_of_all_kinds(), chunk=7)
        assert not recorded
        for one, other in zip(own, run(engine(model), *requests_of_all_kinds(), chunk=7), strict=True):
            assert_same(one, other)
        assert captures(recorded) > 1

    @pytest.mark.parametrize("options", [{"steps_per_read": 4}, {"prefix_bytes": 2**24}])
    def test_engines_of_all_kinds(self, recorded, options):
        requests = [*requests_of_all_kinds(), *requests_of_all_kinds()]
        model = tiny_model("qwen2")
        own, other = run(engine(model, compile=False, **options), *requests), run(engine(model, **options), *requests)
        assert replays(recorded) > 30
        for one, two in zip(own, other, strict=True):
            assert_same(one, two)

    def test_requests_join_and_candidates_are_dropped(self, recorded, monkeypatch):
        monkeypatch.setattr(captured_steps, "_POSITIONS", 16)
        first, second, third, fourth = requests_of_all_kinds()
        model, groups = tiny_model("qwen3"), []
        for option in (False, True):
            one = engine(model, compile=option)
            generations = [one.start(first)]
            one.step(5)
            generations.append(one.start(second))
            one.step(6)
            one.drop(generations[0], [1, 4])
            one.step(3)
            generations += [one.start(third), one.start(fourth)]
            one.drop(generations[0], [0])
            while any(generation.live for generation in generations):
                one.step(4)
                # of the rows in the middle
                if len(generations[1].live) == 3:
                    one.drop(generations[1], generations[1].live[:1])
            groups.append([generation.group() for generation in generations])
            for generation in generations:
                one.release(generation)
        assert replays(recorded) > 30
        for own, other in zip(*groups, strict=True):
            assert_same(own, other)

    def test_one_engine_answers_again_with_the_graphs_that_it_has(self, recorded):
        one = engine(tiny_model())
        first = run(one, *requests_of_all_kinds())
        made = captures(recorded)
        for before, again in zip(first, run(one, *requests_of_all_kinds()), strict=True):
            assert_same(before, again)
            assert all(
                np.array_equal(a.logprobs, b.logprobs) for a, b in zip(before.rollouts, again.rollouts, strict=True)
            )
        assert captures(recorded) == made

    def test_texts_that_outgrow_the_buffers(self, recorded, monkeypatch):
        monkeypatch.setattr(captured_steps, "_POSITIONS", 16)
        request = seeded(ids("x" * 20), SamplingConfig(n=3, max_new_tokens=70, **FREE), 3, RECORDING)
        model = tiny_model("gemma2")
        (own,), (other,) = run(engine(model, compile=False), request, chunk=8), run(engine(model), request, chunk=8)
        assert_same(own, other)
        assert captures(recorded) > 4

    def test_processors_that_read_the_tokens(self, recorded):
        class NoRepeats(LogitsProcessor):
            def __call__(self, input_ids, scores):
                return scores.scatter(1, input_ids, -torch.inf)

        sampling = SamplingConfig(n=4, max_new_tokens=30, **FREE, generation_options={"min_new_tokens": 9})
        request = seeded(ids("list"), sampling, 3, RECORDING, logits_processors=[NoRepeats()])
        model = tiny_model("llama")
        (own,), (other,) = run(engine(model, compile=False), request), run(engine(model), request)
        assert_same(own, other)
        assert all(len(set(rollout.token_ids)) == len(rollout) for rollout in other.rollouts)

    def test_long_prompts_and_prompts_of_one_token_wait_for_nobody(self, recorded, monkeypatch):
        requests = [
            seeded(ids("a long prompt " * 4), SamplingConfig(n=2, max_new_tokens=36, **FREE), 3, RECORDING),
            # whose window of 16 positions has moved, and dropped keys, when they are captured at last
            seeded(ids("short"), SamplingConfig(n=2, max_new_tokens=60, **FREE), 4, RECORDING),
            seeded([7], SamplingConfig(n=2, max_new_tokens=50, **FREE), 5, RECORDING),
        ]
        monkeypatch.setattr("nad_agents.engine.hf.prefix.batch.COPIED_PROMPT", 32)
        model = tiny_model("gemma2")
        own, other = run(engine(model, compile=False), *requests, chunk=6), run(engine(model), *requests, chunk=6)
        for one, two in zip(own, other, strict=True):
            assert_same(one, two)
        # only after the long prompt has left
        assert 20 <= replays(recorded) <= 40

    def test_rows_whose_logits_are_not_numbers_harm_no_other_request(self, recorded):
        model = make_model("llama")
        one = engine(model)
        request = seeded(ids("x" * 30), SamplingConfig(n=4, max_new_tokens=40, **FREE), 3)
        good = run(engine(model, compile=False), request)[0]
        broken = one.start(seeded(ids("y" * 40), SamplingConfig(n=4, max_new_tokens=40, **FREE), 3))
        one.step(4)
        with torch.inference_mode():
            for block in one._captured.buffers._layers.values():
                block.keys.fill_(torch.nan)
                block.values.fill_(torch.nan)
        one.step(4)
        assert isinstance(broken.error, GenerationError)
        one.release(broken)
        assert_same(good, run(one, request)[0])


class TestMoreRows:
    def test_rows_take_the_graph_of_the_next_power_of_two(self):
        assert [row_bucket(rows) for rows in (1, 2, 3, 4, 5, 64, 65, 256)] == [1, 2, 4, 4, 8, 64, 128, 256]
        assert [length_bucket(length) for length in (1, 256, 257)] == [256, 256, 512]

    def test_of_many_rows_some_are_proven(self, recorded):
        request = seeded(ids("yes"), SamplingConfig(n=35, max_new_tokens=8, **FREE), 3, RECORDING)
        model = tiny_model()
        (own,), (captured,) = run(engine(model, compile=False), request), run(engine(model), request)
        assert_same(own, captured)
        assert replays(recorded) == TRIED + 8

    def test_too_many_rows(self, recorded, monkeypatch):
        monkeypatch.setattr(captured_steps, "_MOST_ROWS", 4)
        sampling = SamplingConfig(n=5, max_new_tokens=12, **FREE)
        run(engine(tiny_model()), seeded(ids("yes"), sampling, 3))
        assert not replays(recorded)

    def test_the_least_recently_used_graph_makes_room(self, recorded, monkeypatch):
        monkeypatch.setattr(captured_steps, "_MOST_GRAPHS", 2)
        one = engine(tiny_model())
        run(one, seeded(ids("yes"), SamplingConfig(n=8, max_new_tokens=60, **FREE, stop=tuple("aeiostz")), 3))
        assert one._captured.graphs == 2 < captures(recorded)

    def test_no_buffer_moves_while_its_graphs_live(self, recorded):
        one = engine(tiny_model())
        generation = one.start(seeded(ids("yes"), SamplingConfig(n=3, max_new_tokens=60, **FREE), 3, RECORDING))
        places = set()
        for _ in range(6):
            one.step(9)
            buffers = one._captured.buffers
            tensors = [one._captured._capture._logits, buffers.tokens, buffers.positions]
            tensors += [layer.values for layer in one._captured._capture._activations]
            tensors += [tensor for block in buffers._layers.values() for tensor in (block.keys, block.values)]
            places.add(tuple(tensor.data_ptr() for tensor in tensors))
            # the engine's own cache is a view of them
            suffix = one._batches.shared_cache.attention_layers[1].suffixes[0]
            assert suffix.keys.data_ptr() == buffers._layers[1].keys.data_ptr()
        assert len(places) == 1
        one.release(generation)


class TestMemory:
    def test_without_room_the_model_takes_its_steps(self, recorded, monkeypatch):
        model, requests = tiny_model(), requests_of_all_kinds()
        own = run(engine(model, compile=False), *requests)
        monkeypatch.setattr(captured_steps, "available_device_memory", lambda device: 1000)
        for one, other in zip(own, run(engine(model), *requests), strict=True):
            assert_same(one, other)
        assert not replays(recorded)

    def test_room_for_one_batch_and_not_for_a_larger_one(self, recorded, monkeypatch):
        model = tiny_model()
        size = 2 * 3 * 2 * 2 * 256 * 8 * 4
        monkeypatch.setattr(captured_steps, "available_device_memory", lambda device: 2 * size)
        one = engine(model)
        small = seeded(ids("yes"), SamplingConfig(n=2, max_new_tokens=12, **FREE), 3)
        run(one, small)
        assert one._captured.buffers.bytes_held == size
        before = replays(recorded)
        assert before > 0
        monkeypatch.setattr(captured_steps, "available_device_memory", lambda device: size)
        run(one, seeded(ids("yes"), SamplingConfig(n=5, max_new_tokens=12, **FREE), 3))
        assert replays(recorded) == before
        run(one, small)
        assert one._captured.buffers.bytes_held == 0

    def test_a_request_that_would_be_refused_takes_the_idle_buffers(self, recorded, monkeypatch):
        one = engine(tiny_model())
        request = seeded(ids("yes"), SamplingConfig(n=2, max_new_tokens=12, **FREE), 3)
        run(one, request)
        assert one._captured.buffers.bytes_held
        seen = []

        def free(device):
            seen.append(one._captured.buffers.bytes_held)
            return 0 if seen[-1] else 2**40

        monkeypatch.setattr("nad_agents.engine.hf.request_checks.available_device_memory", free)
        one.check(request)
        assert seen[0]
        assert not seen[-1]
        monkeypatch.undo()


class TestTooLittleMemory:
    """Captures for which the device's memory is too small."""

    def requests(self):
        few, many = SamplingConfig(n=2, max_new_tokens=12, **FREE), SamplingConfig(n=7, max_new_tokens=12, **FREE)
        return seeded(ids("yes"), many, 3, RECORDING), seeded(ids("no"), few, 4, RECORDING)

    def test_fewer_rows_are_captured_all_the_same(self, recorded, caplog, monkeypatch):
        model, (many, few) = tiny_model(), self.requests()
        own = [run(engine(model, compile=False), request)[0] for request in (many, few)]
        capture = RecordedGraphs.capture

        def with_room_for_four_rows(graphs, function):
            # the first tensor that the step uses has its rows
            tensors = [cell.cell_contents for cell in function.__closure__]
            if next(len(one) for one in tensors if isinstance(one, torch.Tensor)) > 4:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return capture(graphs, function)

        monkeypatch.setattr(RecordedGraphs, "capture", with_room_for_four_rows)
        monkeypatch.setattr(captured_steps, "LEAST_GAIN", 0)
        one = engine(model, compile="auto")
        with caplog.at_level(logging.INFO, LOGGER):
            assert_same(own[0], run(one, many)[0])
        assert "could not be captured: OutOfMemoryError: CUDA out of memory" in caplog.text
        assert not replays(recorded)
        assert not one._captured.buffers.bytes_held
        # and are not captured again, as they would not fit again
        made = len(recorded)
        run(one, many)
        assert len(recorded) == made
        assert_same(own[1], run(one, few)[0])
        assert replays(recorded) >= TRIED
        assert one._captured._useful


class TestWeights:
    """Weights that are somewhere else than when a step was captured, where a graph would still read them."""

    def test_graphs_of_weights_that_have_moved_are_captured_anew(self, recorded):
        model = make_model("llama")
        one = engine(model)
        request = seeded(ids("yes"), SamplingConfig(n=3, max_new_tokens=12, **FREE), 3, RECORDING)
        before = run(one, request)[0]
        made = captures(recorded)
        assert_same(before, run(one, request)[0])
        assert captures(recorded) == made
        places = [weight.data for weight in model.parameters()]
        # as `to` does with another device
        for weight in model.parameters():
            weight.data = weight.data.clone()
        for place in places:
            place.zero_()
        assert_same(before, run(one, request)[0])
        assert captures(recorded) > made

    def test_weights_that_change_where_they_are_need_no_other_graph(self, recorded):
        model = make_model("llama")
        one = engine(model)
        request = seeded(ids("yes"), SamplingConfig(n=3, max_new_tokens=12, **FREE), 3, RECORDING)
        run(one, request)
        made = captures(recorded)
        with torch.no_grad():
            for weight in model.parameters():
                weight.mul_(1.5)
        assert_same(run(engine(model, compile=False), request)[0], run(one, request)[0])
        assert captures(recorded) == made


class TestProof:
    """What a step has to prove before it is used."""

    request = seeded(ids("yes"), SamplingConfig(n=3, max_new_tokens=20, **FREE), 3, RECORDING)

    def automatic(self, caplog, model=None):
        """The text of the log, after a request that has to be answered as without graphs."""
        model = model or tiny_model()
        own = run(engine(model, compile=False), self.request)[0]
        with caplog.at_level(logging.INFO, LOGGER):
            assert_same(own, run(engine(model, compile="auto"), self.request)[0])
        return caplog.text

    def log_of_another_model(self, caplog, one):
        """The text of the log, after a request that is answered, however wrong the model is."""
        with caplog.at_level(logging.INFO, LOGGER):
            (group,) = run(one, self.request)
        assert all(len(rollout) for rollout in group.rollouts)
        return caplog.text

    def clock(self, monkeypatch, *, captured, own):
        """Time as it passes on another machine: so many seconds for all captured and all own steps."""
        readings = (second for i in count() for second in (10 * i, 10 * i + (own if i % 2 else captured)))
        monkeypatch.setattr(self_check.time, "perf_counter", lambda: next(readings))

    def test_a_faster_step_is_taken(self, recorded, caplog, monkeypatch):
        self.clock(monkeypatch, captured=1, own=3)
        assert "3.0 times as fast as the model's own\n" in self.automatic(caplog)
        assert replays(recorded) == TRIED + 20

    def test_a_step_that_gains_too_little_is_not_taken(self, recorded, caplog, monkeypatch):
        self.clock(monkeypatch, captured=1, own=1.1)
        assert "1.1 times as fast as the model's own, which is used" in self.automatic(caplog)
        assert replays(recorded) == TRIED

    def test_a_step_that_freezes_a_value_is_not_taken(self, recorded, caplog):
        model = make_model("llama")
        steps = count()
        # as a model would that counts its steps in Python
        model.lm_head.register_forward_hook(lambda _module, _inputs, output: output * (1 + next(steps) % 7))
        log = self.log_of_another_model(caplog, engine(model, compile="auto"))
        assert "could not be captured: RuntimeError: it does not compute what the model computes" in log
        assert replays(recorded) == TRIED

    def test_a_step_that_records_something_else_is_not_taken(self, recorded, caplog):
        model = make_model("llama")
        layer = model.model.layers[1].mlp
        steps = count()
        # its output stays the same
        layer.act_fn.register_forward_hook(lambda _m, _i, output: output * (1 + next(steps)))
        layer.down_proj.register_forward_hook(lambda _m, _i, output: output * 0)
        one = engine(model, compile="auto")
        # which would find the structure wrong
        one._recorder._verified = True
        assert "it does not compute what the model computes" in self.log_of_another_model(caplog, one)

    def test_a_step_that_waits_for_the_device_is_not_taken(self, recorded, caplog):
        assert "makes the host wait for the device" in self.automatic(caplog, tiny_model("gpt2"))
        assert not replays(recorded)

    def test_a_step_that_has_failed_is_not_tried_again(self, recorded):
        one = engine(tiny_model("gpt2"), compile="auto")
        for _ in range(2):
            run(one, self.request)
        assert len(recorded) == 2
        assert one._captured.buffers.bytes_held == 0

    def test_the_last_step_of_a_request_proves_nothing(self, recorded):
        run(engine(tiny_model()), seeded(ids("yes"), SamplingConfig(n=3, max_new_tokens=1, **FREE), 3))
        assert not captures(recorded)

    def test_a_required_step_that_fails_is_an_error_in_every_request(self, recorded):
        one = engine(tiny_model("gpt2"))
        for _ in range(2):
            generation = one.start(self.request)
            with pytest.raises(GenerationError, match=r"could not be captured: .* leave compile=True out"):
                one.step(4)
            one.release(generation)

    @pytest.mark.parametrize("failing", [1, 2, 4])
    def test_a_proof_that_fails_halfway_leaves_the_rows_where_they_were(self, recorded, caplog, monkeypatch, failing):
        model = make_model("llama")
        forward, calls = HFEngine._forward, count(1)

        def fails(self, tokens, positions, mask, cache):
            # in the middle of the model's own steps, not of those that are captured
            if isinstance(cache, SharedPrefixCache) and next(calls) == failing:
                forward(self, tokens, positions, mask, cache)
                raise RuntimeError("a kernel is broken")
            return forward(self, tokens, positions, mask, cache)

        own = run(engine(model, compile=False), self.request)[0]
        one = engine(model, compile="auto")
        generation = one.start(self.request)
        monkeypatch.setattr(HFEngine, "_forward", fails)
        one._captured._capture._forward = one._forward
        with caplog.at_level(logging.INFO, LOGGER):
            while generation.live:
                one.step(7)
        assert "could not be captured: RuntimeError: a kernel is broken" in caplog.text
        assert_same(own, generation.group())
        one.release(generation)


class TestChoice:
    def test_a_cpu_captures_nothing(self):
        assert engine(tiny_model(), compile="auto")._captured is None
        with pytest.raises(ConfigurationError, match=r"captures CUDA graphs, and .* is on cpu; leave it out"):
            engine(tiny_model())

    @pytest.mark.parametrize(
        ("family", "reason"),
        [
            ("Falcon", "its code does not take such a cache"),
            ("Qwen 3.5", "its layers have recurrent states"),
            ("DeepSeek V3, R1; Kimi K2", "computes keys and values anew"),
        ],
    )
    def test_models_whose_steps_cannot_be_captured(self, recorded, family, reason):
        model = family_model(family)
        assert engine(model, compile="auto")._captured is None
        with pytest.raises(UnsupportedModelError, match=reason):
            engine(model)

    def test_rotary_embeddings_that_depend_on_the_length(self, recorded):
        scaled = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}
        with pytest.raises(UnsupportedModelError, match="depend on the length"):
            engine(make_model("llama", rope_parameters=scaled))

    def test_a_cache_that_does_not_share_prompts(self, recorded):
        assert engine(tiny_model(), compile="auto", share_prompts=False)._captured is None


class TestOperations:
    def test_beside_the_graph_a_step_costs_what_its_draw_costs(self, recorded):
        counts = {}
        for recording in (None, RECORDING):
            model = make_model("llama")
            # no candidate ends
            model.get_output_embeddings().weight.data[EOS] = 0
            one = engine(model, steps_per_read=4)
            sampling = SamplingConfig(n=2, max_new_tokens=90, temperature=0.8, top_k=20, top_p=0.95)
            for i in range(2):
                one.start(seeded([i + 1, 2, 3], sampling, i, recording))
            one.step(8)
            operations = []
            for steps in (4, 12):
                replay_of = one._captured._graphs
                # what is replayed are launches of the device, not of the host
                for key, graph in replay_of.items():
                    replay_of[key] = graph._replace(replay=lambda: None)
                with StepTrace() as trace:
                    one.step(steps)
                operations.append(trace.operations.total())
            counts[recording] = (operations[1] - operations[0]) / 8
        # of two requests; the model's own step has twice as many in its three layers, and 1,139 in 28
        assert counts[None] <= 45
        assert counts[RECORDING] <= counts[None] + 1
