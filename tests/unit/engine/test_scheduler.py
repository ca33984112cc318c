"""Callers of several threads on one engine: sharing, order, cancelling, failing."""

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from nad_agents.engine.base import GenerationRequest
from nad_agents.engine.hf.engine import HFEngine
from nad_agents.engine.scheduled_request import ScheduledRequest
from nad_agents.engine.scheduler import Scheduler
from nad_agents.exceptions import ConfigurationError, GenerationCancelledError, GenerationError, PromptError
from nad_agents.neurons.recording_config import RecordingConfig
from nad_agents.types import SamplingConfig
from tests.tiny_models import byte_tokenizer, make_model, tiny_model


class Watcher:
    """Records what it sees; may hold the engine's thread, drop candidates or fail."""

    def __init__(self, *, step=32, drop=(), error=None, hold=None):
        self.step, self.drop, self.error, self.hold = step, drop, error, hold
        self.seen, self.rows = [], []
        self.reached = threading.Event()
        self.engine = None

    def max_step(self, generation):
        return self.step

    def after_step(self, generation, *, chunk_ended):
        self.seen.append((generation.tokens, chunk_ended))
        if self.engine is not None:
            self.rows.append(self.engine.rows)
        self.reached.set()
        if self.hold is not None:
            assert self.hold.wait(20)
        if self.error is not None:
            raise self.error
        return self.drop if chunk_ended else ()


def request(n=2, tokens=24, seed=1, chunk_size=8, prompt=(5, 6, 7)):
    sampling = SamplingConfig(n=n, max_new_tokens=tokens, temperature=1.0, seed=seed)
    return GenerationRequest(list(prompt), sampling, chunk_size=chunk_size)


def submit(scheduler, *requests):
    """Each with its observer; returns them as scheduled."""
    scheduled = [ScheduledRequest([request], observer) for request, observer in requests]
    scheduler.submit(scheduled)
    return scheduled


def engine():
    return HFEngine(tiny_model(num_hidden_layers=1), byte_tokenizer())


def tokens(outcome):
    return [r.token_ids.tolist() for r in outcome.group.rollouts]


def test_the_observer_is_called_at_every_chunk_and_at_shorter_steps_on_request():
    scheduler, whole, fine = Scheduler(engine()), Watcher(), Watcher(step=3)
    submit(scheduler, (request(tokens=16), whole))[0].future.result(20)
    submit(scheduler, (request(tokens=16), fine))[0].future.result(20)
    assert whole.seen == [(8, True), (16, True)]
    assert fine.seen == [(3, False), (6, False), (8, True), (11, False), (14, False), (16, True)]


def test_requests_of_one_call_share_the_batch():
    backend = engine()
    scheduler, watcher = Scheduler(backend), Watcher()
    watcher.engine = backend
    scheduled = submit(scheduler, (request(n=2), watcher), (request(n=3, seed=2), Watcher()))
    for one in scheduled:
        one.future.result(20)
    assert max(watcher.rows) == 5


@pytest.mark.parametrize("limits", [{"share_batches": False}, {"max_rows": 3}])
def test_requests_wait_where_they_may_not_share(limits):
    backend = engine()
    scheduler, watcher = Scheduler(backend, **limits), Watcher()
    watcher.engine = backend
    for one in submit(scheduler, (request(n=2), watcher), (request(n=3, seed=2), Watcher())):
        one.future.result(20)
    assert max(watcher.rows) == 2


def test_callers_of_many_threads_get_what_each_asked_for():
    scheduler = Scheduler(engine())
    alone = [tokens(submit(scheduler, (request(seed=s), Watcher()))[0].future.result(20)) for s in range(6)]
    results = {}

    def call(seed):
        one = submit(scheduler, (request(seed=seed), Watcher()))[0]
        results[seed] = tokens(one.future.result(20))

    threads = [threading.Thread(target=call, args=(s,)) for s in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [results[s] for s in range(6)] == alone


def test_cancelling_stops_within_a_chunk_and_frees_the_rows():
    backend, hold = engine(), threading.Event()
    scheduler, watcher = Scheduler(backend), Watcher(hold=hold)
    one = submit(scheduler, (request(tokens=400, prompt=(9,)), watcher))[0]
    assert watcher.reached.wait(20)
    one.cancellation.cancel()
    hold.set()
    with pytest.raises(GenerationCancelledError):
        one.future.result(20)
    assert len(watcher.seen) == 1
    assert backend.rows == 0


def test_a_request_cancelled_while_it_waits_never_runs():
    hold = threading.Event()
    scheduler, first, second = Scheduler(engine(), share_batches=False), Watcher(hold=hold), Watcher()
    running = submit(scheduler, (request(), first))[0]
    assert first.reached.wait(20)
    waiting = submit(scheduler, (request(), second))[0]
    waiting.cancellation.cancel()
    hold.set()
    running.future.result(20)
    with pytest.raises(GenerationCancelledError):
        waiting.future.result(20)
    assert second.seen == []


class Reading(HFEngine):
    """Reads prompts four tokens at a time; calls back before each piece, and keeps the batch's rows and lengths."""

    def __init__(self, monkeypatch, before_piece):
        super().__init__(tiny_model(num_hidden_layers=1), byte_tokenizer())
        monkeypatch.setattr("nad_agents.engine.hf.prefill.PREFILL_TOKENS", 4)
        monkeypatch.setattr("nad_agents.engine.scheduler._PREFILL_BUDGET", 4)
        self.before_piece, self.pieces = before_piece, 0

    def _read(self, *inputs):
        self.pieces += 1
        self.before_piece(self)
        super()._read(*inputs)


LONG = tuple(range(5, 46))


@pytest.mark.parametrize("leave", [lambda one, _: one.cancellation.cancel(), lambda _, scheduler: scheduler.stop()])
def test_a_caller_who_leaves_during_prefill_stops_it_at_the_next_piece(monkeypatch, leave):
    reached, left = threading.Event(), threading.Event()

    def before_piece(engine):
        if engine.pieces == 3:
            reached.set()
            assert left.wait(20)

    backend = Reading(monkeypatch, before_piece)
    scheduler, watcher = Scheduler(backend), Watcher()
    one = submit(scheduler, (request(prompt=LONG), watcher))[0]
    assert reached.wait(20)
    assert scheduler.prompt_tokens_left == len(LONG) - 1 - 2 * 4
    leaving = threading.Thread(target=leave, args=(one, scheduler))
    leaving.start()
    while not one.cancellation.cancelled:
        pass
    left.set()
    with pytest.raises(GenerationCancelledError):
        one.future.result(20)
    leaving.join(20)
    assert (backend.pieces, backend.rows, watcher.seen) == (3, 0, [])
    assert scheduler.prompt_tokens_left == 0
    assert len(submit(scheduler, (request(), Watcher()))[0].future.result(20).group) == 2


def test_running_candidates_advance_between_the_pieces_of_a_long_prompt(monkeypatch):
    running, seen = Watcher(), []
    backend = Reading(monkeypatch, lambda _: seen.append(len(running.seen)))
    scheduler, joining = Scheduler(backend), request(prompt=LONG, seed=2)
    alone = tokens(submit(scheduler, (joining, Watcher()))[0].future.result(20))
    seen.clear()
    scheduled = submit(scheduler, (request(tokens=200, chunk_size=4), running), (joining, Watcher()))
    outcomes = [one.future.result(20) for one in scheduled]
    # the first prompt is one piece, and after the first of the second's ten each finds the batch a chunk further
    assert seen == [0, 0, *range(1, 10)]
    assert tokens(outcomes[1]) == alone


def test_a_failure_while_a_prompt_is_read_reaches_its_caller_only(monkeypatch):
    def fail(engine):
        if engine.pieces == 3:
            raise RuntimeError("no memory left")

    scheduler = Scheduler(Reading(monkeypatch, fail))
    good, bad = submit(scheduler, (request(tokens=40), Watcher()), (request(prompt=LONG), Watcher()))
    with pytest.raises(GenerationError, match="no memory left"):
        bad.future.result(20)
    assert len(good.future.result(20).group) == 2


def test_a_cancelled_request_leaves_the_queue_while_another_runs():
    hold = threading.Event()
    scheduler, first = Scheduler(engine(), share_batches=False), Watcher(hold=hold)
    running, _, gone = submit(scheduler, (request(tokens=40), first), (request(), Watcher()), (request(), Watcher()))
    assert first.reached.wait(20)
    seen_when_failed = []
    gone.future.add_done_callback(lambda _: seen_when_failed.append(len(first.seen)))
    gone.cancellation.cancel()
    hold.set()
    running.future.result(20)
    with pytest.raises(GenerationCancelledError):
        gone.future.result(20)
    assert seen_when_failed == [1]


def test_a_failing_observer_fails_its_own_request_only():
    scheduler = Scheduler(engine())
    bad, good = submit(scheduler, (request(), Watcher(error=KeyError("mine"))), (request(seed=2), Watcher()))
    with pytest.raises(KeyError, match="mine"):
        bad.future.result(20)
    assert len(good.future.result(20).group) == 2


def test_a_failing_model_reaches_every_caller_at_once_with_its_cause():
    model = make_model("llama")
    scheduler = Scheduler(HFEngine(model, byte_tokenizer()))

    def fail(_module, _inputs):
        raise RuntimeError("out of memory\nlong story")

    handle = model.model.layers[1].register_forward_pre_hook(fail)
    scheduled = submit(scheduler, (request(prompt=(5,)), Watcher()), (request(prompt=(6,)), Watcher()))
    for one in scheduled:
        with pytest.raises(GenerationError, match=r"RuntimeError: out of memory$") as caught:
            one.future.result(20)
        assert isinstance(caught.value.__cause__, RuntimeError)
    handle.remove()
    assert len(submit(scheduler, (request(), Watcher()))[0].future.result(20).group) == 2


def test_a_request_that_cannot_work_is_refused_by_submit_and_none_is_queued():
    scheduler, watcher = Scheduler(engine()), Watcher()
    with pytest.raises(PromptError):
        submit(scheduler, (request(), watcher), (request(prompt=()), watcher))
    assert watcher.seen == []


def test_dropped_candidates_stop():
    outcome = submit(Scheduler(engine()), (request(n=3, tokens=32), Watcher(drop=(0, 2))))[0].future.result(20)
    assert [r.finish_reason for r in outcome.group.rollouts][::2] == ["pruned", "pruned"]
    assert outcome.generated == sum(len(r) for r in outcome.group.rollouts)


def test_no_room_is_refused():
    with pytest.raises(ConfigurationError, match="max_rows"):
        Scheduler(engine(), max_rows=0)


def test_the_thread_ends_when_idle_and_lets_the_model_go(monkeypatch):
    monkeypatch.setattr("nad_agents.engine.scheduler._IDLE_SECONDS", 0.01)
    backend = HFEngine(make_model("llama"), byte_tokenizer())
    alive = weakref.ref(backend)
    scheduler = Scheduler(backend)
    submit(scheduler, (request(), Watcher()))[0].future.result(20)
    _join(scheduler)
    submit(scheduler, (request(), Watcher()))[0].future.result(20)
    _join(scheduler)
    del backend, scheduler
    gc.collect()
    assert alive() is None


def test_stopping_cancels_everything_ends_the_thread_and_later_requests_start_it_again():
    scheduler, watcher = Scheduler(engine(), max_rows=2), Watcher()
    running, waiting = submit(scheduler, (request(tokens=300), watcher), (request(seed=2), Watcher()))
    assert watcher.reached.wait(20)
    scheduler.stop()
    assert scheduler._thread is None
    for one in (running, waiting):
        with pytest.raises(GenerationCancelledError):
            one.future.result(0)
    scheduler.stop()
    assert len(submit(scheduler, (request(), Watcher()))[0].future.result(20).group) == 2


def _join(scheduler):
    if (thread := scheduler._thread) is not None:
        thread.join(20)


def outcome_of(engine, request):
    generation = engine.start(request)
    while generation.live:
        engine.step(4)
    return generation.group()


def test_engines_that_share_a_model_take_turns():
    model = make_model("llama")
    sampling = SamplingConfig(n=3, max_new_tokens=24, seed=1, generation_options={"min_new_tokens": 24})
    recorded = GenerationRequest([5, 6, 7], sampling, RecordingConfig("activation", 8, 4), chunk_size=4)
    alone = outcome_of(HFEngine(model, byte_tokenizer()), recorded)
    engines = [HFEngine(model, byte_tokenizer()) for _ in range(4)]
    with ThreadPoolExecutor(len(engines)) as pool:
        together = list(pool.map(lambda engine: outcome_of(engine, recorded), engines))
    for group in together:
        for mine, other in zip(alone.rollouts, group.rollouts, strict=True):
            np.testing.assert_array_equal(mine.neurons, other.neurons)


def test_candidates_that_cannot_be_put_together_fail_their_request_and_no_other(monkeypatch):
    scheduler = Scheduler(engine())

    def broken(_generation):
        raise ValueError("rows are missing")

    with monkeypatch.context() as patch:
        patch.setattr("nad_agents.engine.hf.generation.HFGeneration.group", broken)
        with pytest.raises(GenerationError, match="rows are missing"):
            submit(scheduler, (request(), Watcher()))[0].future.result(20)
    assert len(submit(scheduler, (request(), Watcher()))[0].future.result(20).group) == 2


class Waiting(HFEngine):
    """Takes a few steps to begin, as an engine with a queue of its own may."""

    idle = 3

    def step(self, max_tokens):
        if self.idle:
            self.idle -= 1
            return
        super().step(max_tokens)


def test_an_observer_is_not_called_for_candidates_that_have_not_grown():
    backend, watcher = Waiting(tiny_model(num_hidden_layers=1), byte_tokenizer()), Watcher()
    submit(Scheduler(backend), (request(tokens=16), watcher))[0].future.result(20)
    assert backend.idle == 0
    assert watcher.seen == [(8, True), (16, True)]


class TestHealth:
    def test_a_scheduler_works_before_during_and_after_a_request(self):
        watcher = Watcher(hold=threading.Event())
        scheduler = Scheduler(engine())
        scheduler.check_health()
        running = submit(scheduler, (request(), watcher))[0]
        assert watcher.reached.wait(20)
        scheduler.check_health()
        watcher.hold.set()
        running.future.result(20)
        scheduler.check_health()

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
    @pytest.mark.parametrize("where", ["can_join", "release"])
    def test_a_thread_that_ends_by_an_error_fails_its_requests_and_later_ones(self, where, monkeypatch):
        backend = engine()
        scheduler = Scheduler(backend)

        def ends(*_):
            raise RuntimeError("no way on")

        monkeypatch.setattr(backend, where, ends)
        told = "has ended by an error, RuntimeError: no way on; load the model again"
        for unfinished in submit(scheduler, (request(), Watcher()), (request(), Watcher())):
            with pytest.raises(GenerationError, match=told):
                unfinished.future.result(20)
        # what it raises is then told within this test
        scheduler._thread.join(20)
        with pytest.raises(GenerationError, match=told):
            scheduler.check_health()
        with pytest.raises(GenerationError, match=told):
            submit(scheduler, (request(), Watcher()))

    def test_a_device_that_does_not_compute_is_told(self):
        backend = engine()
        backend.check_health()
        # nothing can be read from it, as from a GPU after some errors
        backend._device = torch.device("meta")
        with pytest.raises(GenerationError, match="meta does not compute any more"):
            backend.check_health()
