"""How many copies of a model there is room for on a cluster, and what is said where there is no cluster."""

from types import SimpleNamespace

import pytest

from nad_agents import ConfigurationError
from nad_agents.ray_cluster import ReplicaOptions, connected


@pytest.mark.parametrize(
    ("options", "room"),
    [
        ({}, 8),
        ({"num_cpus": 3}, 2),
        ({"num_gpus": 1}, 4),
        ({"num_gpus": 0.5}, 8),
        ({"num_gpus": 0.25}, 8),
        ({"num_gpus": 3}, 1),
        ({"num_gpus": 8}, 0),
    ],
)
def test_room_is_what_cpus_and_gpus_leave(options, room):
    assert ReplicaOptions.parse(options).room_in({"CPU": 8.0, "GPU": 4.0}) == room


def test_a_cluster_without_gpus_has_no_room_for_copies_that_take_one():
    assert ReplicaOptions.parse({"num_gpus": 1}).room_in({"CPU": 8.0}) == 0


@pytest.mark.parametrize("options", [{"replicas": 0}, {"num_cpus": 0}, {"num_gpus": -1}, {"num_gpus": 1.5}])
def test_what_cannot_be_is_refused(options):
    (name,) = options
    with pytest.raises(ConfigurationError, match=name.replace("_", ".")):
        ReplicaOptions.parse(options)


def test_a_ray_that_does_not_start_is_an_error_that_says_what_to_do(monkeypatch):
    def init(**_):
        raise Exception("The current node timed out during startup.")  # noqa: TRY002 - what Ray raises

    ray = SimpleNamespace(is_initialized=lambda: False, init=init)
    monkeypatch.setattr("nad_agents.ray_cluster.import_ray", lambda: ray)
    with pytest.raises(ConfigurationError, match=r"does not start on this machine: The current node timed out .* try"):
        connected("local").__enter__()
