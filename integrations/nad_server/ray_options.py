"""The options of a server on a Ray cluster, and what Ray Serve is told for them."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, model_validator

from nad_agents.ray_cluster import ReplicaOptions
from nad_agents.types import DEFAULT_ROWS
from nad_server.options import ServeOptions

__all__ = ["RayOptions"]

_FAREWELL_SECONDS = 5.0
"""How long Ray waits for a replica beyond the time that its requests have."""

_LOOK_SECONDS = 0.5
"""How often a replica that stops looks whether its requests have ended."""

_HEALTH_SECONDS = 5.0
"""How often Ray asks a replica whether its engine works; after three times without a yes it is replaced."""

_ATTEMPTS = 3
"""How often a replica may fail to start before the application counts as failed."""


class RayOptions(ServeOptions, ReplicaOptions):
    """The options of `nad serve --ray`, which are also the arguments of `nad_server.ray_app:app`."""

    min_replicas: int | None = Field(
        default=None, ge=1, description="Fewest copies of the model where their number follows the load. Default: 1."
    )
    max_replicas: int | None = Field(
        default=None,
        ge=1,
        description="Most copies of the model, whose number then follows the requests; instead of `replicas`.",
    )
    target_ongoing_requests: float | None = Field(
        default=None,
        gt=0,
        description="Requests per copy, waiting ones included, beyond which there are to be more copies. Default: as "
        "many as fill a batch.",
    )

    @model_validator(mode="after")
    def _one_kind_of_scaling(self) -> Self:
        if self.max_replicas is None:
            for name in ("min_replicas", "target_ongoing_requests"):
                if getattr(self, name) is not None:
                    msg = f"{name} is for a number of copies that follows the load; add max_replicas"
                    raise ValueError(msg)
        elif self.replicas is not None:
            msg = "replicas and max_replicas exclude each other; a fixed number of copies, or one that follows the load"
            raise ValueError(msg)
        elif self.max_replicas < (self.min_replicas or 1):
            msg = f"max_replicas={self.max_replicas} is below min_replicas={self.min_replicas}"
            raise ValueError(msg)
        return self

    @property
    def full_batch(self) -> int:
        """Requests that fill a replica's batch."""
        rows = DEFAULT_ROWS if self.max_rows == "auto" else self.max_rows
        return max(1, rows // self.n)

    @property
    def max_ongoing_requests(self) -> int:
        """Requests that Ray gives to a replica at a time; the others wait where the next free replica gets them."""
        return 2 * self.full_batch

    def deployment(self) -> dict[str, Any]:
        """Return the options of `ray.serve.deployment`."""
        scaling: dict[str, Any] = {"num_replicas": self.replicas or 1}
        if self.max_replicas is not None:
            scaling = {
                "autoscaling_config": {
                    "min_replicas": self.min_replicas or 1,
                    "max_replicas": self.max_replicas,
                    "target_ongoing_requests": self.target_ongoing_requests or float(self.full_batch),
                }
            }
        return {
            **scaling,
            "ray_actor_options": {"num_cpus": self.num_cpus, "num_gpus": self.num_gpus},
            "max_ongoing_requests": self.max_ongoing_requests,
            "max_queued_requests": self.max_waiting,
            "backpressure_config": {"status_code": 429, "retry_after_s": 5},
            "graceful_shutdown_wait_loop_s": _LOOK_SECONDS,
            "graceful_shutdown_timeout_s": self.shutdown_seconds + _FAREWELL_SECONDS,
            "health_check_period_s": _HEALTH_SECONDS,
            "max_constructor_retry_count": _ATTEMPTS,
        }
