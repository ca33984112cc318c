"""A Ray cluster: how much of it a copy of the model takes, and the connection to it.

The `nad` command loads this module at each start, so that Ray is imported only in `connected`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from nad_agents.config_fields import option_error
from nad_agents.exceptions import ConfigurationError, MissingDependencyError

__all__ = ["ReplicaOptions", "connected", "import_ray"]

_OBJECT_STORE_BYTES = 512 * 2**20
"""Shared memory of a cluster that is started here: room for the records of some dozen problems. What does not fit
goes to disk."""


class ReplicaOptions(BaseModel):
    """How many copies of the model there are, and what each takes; see each field's description."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    replicas: int | None = Field(
        default=None,
        ge=1,
        description="Copies of the model, each in a process of its own on some machine of the cluster.",
    )
    num_cpus: float = Field(default=1, gt=0, description="CPU cores that each copy takes.")
    num_gpus: float = Field(
        default=0,
        ge=0,
        description="GPUs that each copy takes; a part such as 0.5 lets copies share one, and a model that is spread "
        "over two takes 2.",
    )

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Self:
        """Read options by name, as the command line has them.

        Raises:
            ConfigurationError: An option is unknown, or its value cannot work.
        """
        try:
            return cls(**values)
        except ValidationError as error:
            raise option_error(error) from error

    @model_validator(mode="after")
    def _whole_gpus(self) -> Self:
        if self.num_gpus > 1 and not float(self.num_gpus).is_integer():
            msg = (
                f"num_gpus={self.num_gpus} is more than one GPU and no whole number; give a part of one, or whole ones"
            )
            raise ValueError(msg)
        return self

    def room_in(self, resources: dict[str, float]) -> int:
        """Return how many copies there is room for.

        Args:
            resources: What the cluster has, under Ray's names ``CPU`` and ``GPU``.
        """
        room = resources.get("CPU", 0) // self.num_cpus
        if self.num_gpus:
            room = min(room, resources.get("GPU", 0) // self.num_gpus)
        return int(room)


def import_ray() -> Any:
    """Return the module `ray`.

    Raises:
        MissingDependencyError: The extra `ray` is not installed.
    """
    # a program that runs a model on its user's machines reports to nobody, unless its user wants it to
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.serve
    except ModuleNotFoundError as error:
        msg = f"a Ray cluster needs {error.name}; install it with: pip install 'nad-agents[ray]'"
        raise MissingDependencyError(msg) from error
    return ray


@contextlib.contextmanager
def connected(address: str | None = None) -> Iterator[Any]:
    """Connect to a Ray cluster and yield the module `ray`; a cluster that was started for this ends with the block.

    A program that is connected already stays so.

    Args:
        address: Address of the cluster; ``"local"`` starts one on this machine. None takes that of the environment
            variable ``RAY_ADDRESS``, else one that runs on this machine, and else starts one.

    Raises:
        MissingDependencyError: The extra `ray` is not installed.
        ConfigurationError: No cluster answers at the address, or none starts on this machine.
    """
    ray = import_ray()
    if ray.is_initialized():
        yield ray
        return
    if address != "local":
        try:
            ray.init(address=address or "auto", log_to_driver=True, configure_logging=False)
        except (ConnectionError, ValueError) as error:
            wanted = address or os.environ.get("RAY_ADDRESS")
            if wanted:
                msg = (
                    f"no Ray cluster answers at {wanted}: {error}; start one there (ray start --head), or, "
                    "if it asks for a token, set RAY_AUTH_MODE=token"
                )
                raise ConfigurationError(msg) from error
    if not ray.is_initialized():
        try:
            ray.init(
                address="local",
                include_dashboard=False,
                object_store_memory=_OBJECT_STORE_BYTES,
                configure_logging=False,
            )
        except Exception as error:
            # Ray raises a bare Exception where its own processes take longer than 30 seconds to start
            msg = (
                f"Ray does not start on this machine: {error}; see /tmp/ray/session_latest/logs, or, on "
                "a machine that is busy, try again"
            )
            raise ConfigurationError(msg) from error
    try:
        yield ray
    finally:
        ray.shutdown()
