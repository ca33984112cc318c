"""Sample the candidates of problems on a Ray cluster: actors with a model each get the problems as they are free."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator, Mapping, Sequence
from typing import Any

from nad_agents.evaluation.datasets import Problem
from nad_agents.evaluation.recording import DecoderRecorder
from nad_agents.exceptions import ConfigurationError, GenerationError
from nad_agents.ray_cluster import ReplicaOptions
from nad_agents.runs import ProblemRecord
from nad_agents.types import NADConfig, SamplingConfig

__all__ = ["RayRecorder", "RecordingActor"]

_FURTHER_ATTEMPTS = 2
"""How often a problem is given out again after the actor that had it has died."""


class RecordingActor:
    """What an actor does: it loads a model and samples the candidates of one problem after another.

    Ray starts an actor that has died again, with the same arguments, on any machine that has room.

    Args:
        decoder_options: Arguments of `NeuronAgreementDecoder`.
    """

    def __init__(self, decoder_options: Mapping[str, Any]) -> None:
        self._options = decoder_options
        self._lock = threading.Lock()
        self._loaded: DecoderRecorder | None = None

    def describe_model(self) -> Mapping[str, Any]:
        """Load the model and describe it.

        Raises:
            NADError: The model cannot be loaded.
        """
        return self._recorder().describe_model()

    def record(
        self, index: int, problem: Problem, sampling: SamplingConfig, config: NADConfig, expected: Mapping[str, Any]
    ) -> ProblemRecord:
        """Return a problem with its candidates.

        Args:
            index: The problem's index in the run.
            problem: The problem.
            sampling: How candidates are sampled, with a seed.
            config: Options for recording.
            expected: The model of the run.

        Raises:
            NADError: The model cannot be loaded, or failed, or is not the run's.
        """
        recorder = self._recorder()
        described = recorder.describe_model()
        if described != expected:
            different = sorted(name for name in {**described, **expected} if described.get(name) != expected.get(name))
            told = ", ".join(f"{name} {described.get(name)!r} and {expected.get(name)!r}" for name in different)
            msg = f"machines of the cluster load the model differently: {told}; give --device and --dtype by name"
            raise ConfigurationError(msg)
        (record,) = recorder.record([(index, problem)], sampling, config)
        return record

    def _recorder(self) -> DecoderRecorder:
        """Load the model at the first use, since Ray passes on errors of methods as they are, and of `__init__` not."""
        from nad_agents.decoder import NeuronAgreementDecoder

        with self._lock:
            if self._loaded is None:
                self._loaded = DecoderRecorder(NeuronAgreementDecoder(**self._options))
            return self._loaded


class RayRecorder:
    """Samples the candidates of problems on a Ray cluster, and yields the problems as they are complete.

    Args:
        ray: The module `ray`, connected to the cluster.
        decoder_options: Arguments of `NeuronAgreementDecoder`.
        replicas: How many actors there are, and what each takes; by default as many as the cluster has room for.
        in_flight: Number of problems that an actor generates at the same time, in shared batches.

    Raises:
        ConfigurationError: The cluster has no room for an actor.
    """

    def __init__(
        self, ray: Any, decoder_options: Mapping[str, Any], *, replicas: ReplicaOptions, in_flight: int = 1
    ) -> None:
        self._ray = ray
        self._in_flight = in_flight
        resources = ray.cluster_resources()
        self._count = replicas.replicas or replicas.room_in(resources)
        if not self._count:
            msg = (
                f"the cluster has {resources.get('CPU', 0):g} CPUs and {resources.get('GPU', 0):g} GPUs, and a copy of "
                f"the model takes {replicas.num_cpus:g} and {replicas.num_gpus:g}; lower --num-cpus "
                "or --num-gpus, or, where machines come on demand, say how many copies there are to be (--replicas)"
            )
            raise ConfigurationError(msg)
        self._actor = ray.remote(RecordingActor).options(
            num_cpus=replicas.num_cpus,
            num_gpus=replicas.num_gpus,
            max_concurrency=in_flight,
            max_restarts=-1,
            max_task_retries=_FURTHER_ATTEMPTS,
        )
        self._options = dict(decoder_options)
        self._actors: list[Any] = [self._actor.remote(self._options)]
        self._description: Mapping[str, Any] | None = None

    def describe_model(self) -> Mapping[str, Any]:
        """Describe the model of the first actor.

        Raises:
            NADError: The model cannot be loaded.
        """
        if self._description is None:
            self._description = self._get(self._actors[0].describe_model.remote(), "the model is loaded")
        return self._description

    def record(
        self, problems: Sequence[tuple[int, Problem]], sampling: SamplingConfig, config: NADConfig
    ) -> Generator[ProblemRecord]:
        """Yield each problem as soon as its candidates are complete; see `ProblemRecorder.record`.

        Raises:
            NADError: The error of an actor; or actors died repeatedly of one problem.
        """
        expected = self.describe_model()
        waiting = deque(problems)
        missing = min(self._count, len(problems)) - len(self._actors)
        self._actors += [self._actor.remote(self._options) for _ in range(missing)]
        free = deque(actor for _ in range(self._in_flight) for actor in self._actors)
        running: dict[Any, tuple[Any, Problem]] = {}
        try:
            while waiting or running:
                while waiting and free:
                    actor, (index, problem) = free.popleft(), waiting.popleft()
                    task = actor.record.remote(index, problem, sampling, config, expected)
                    running[task] = actor, problem
                (task,), _ = self._ray.wait(list(running), num_returns=1)
                actor, problem = running.pop(task)
                record = self._get(task, f"problem {problem.id!r} is recorded")
                del task  # Ray frees what it keeps of the record with the last reference
                free.append(actor)
                yield record
        finally:
            self.close()

    def close(self) -> None:
        """End the actors, and what they still do."""
        for actor in self._actors:
            self._ray.kill(actor)
        self._actors = []

    def _get(self, task: Any, what: str) -> Any:
        """Return the result of an actor, or raise its error as it was."""
        try:
            return self._ray.get(task)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from error
        except self._ray.exceptions.RayError as error:
            msg = (
                f"the process in which {what} has died {1 + _FURTHER_ATTEMPTS} times, and Ray's log says why; with too "
                f"little memory, lower --n, --max-new-tokens or --in-flight: {error}"
            )
            raise GenerationError(msg) from error
