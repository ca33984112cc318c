"""The options of a server on Ray: how many replicas there are, how many requests each gets, and what is refused."""

import pytest
from nad_server.ray_options import RayOptions

from nad_agents import ConfigurationError


def test_one_replica_unless_more_are_asked_for():
    assert RayOptions.parse({}).deployment()["num_replicas"] == 1
    deployment = RayOptions.parse({"replicas": 3, "num_gpus": 0.5, "num_cpus": 2}).deployment()
    assert deployment["num_replicas"] == 3
    assert deployment["ray_actor_options"] == {"num_cpus": 2, "num_gpus": 0.5}
    assert "autoscaling_config" not in deployment


def test_the_number_of_replicas_follows_the_requests_beyond_a_full_batch():
    deployment = RayOptions.parse({"max_replicas": 4, "n": 16, "max_rows": 64}).deployment()
    assert deployment["autoscaling_config"] == {
        "min_replicas": 1,
        "max_replicas": 4,
        "target_ongoing_requests": 4.0,
    }
    # more than fills a batch, so that none is short of work, and what is left goes to the next one that is free
    assert deployment["max_ongoing_requests"] == 8
    assert "num_replicas" not in deployment
    wanted = RayOptions.parse({"max_replicas": 4, "min_replicas": 2, "target_ongoing_requests": 1.5}).deployment()
    assert wanted["autoscaling_config"] == {"min_replicas": 2, "max_replicas": 4, "target_ongoing_requests": 1.5}


def test_requests_have_the_time_to_end_that_the_operator_gives_them():
    assert RayOptions.parse({"shutdown_seconds": 60}).deployment()["graceful_shutdown_timeout_s"] > 60


def test_arguments_may_be_texts_as_serve_run_passes_them():
    options = RayOptions.parse(
        {"n": "4", "engine_option": "max_model_len=64", "name": ["a", "b"], "early_stop": "true"}
    )
    assert (options.n, options.engine_option, options.name) == (4, ("max_model_len=64",), ("a", "b"))
    assert options.config.pruning == "first_chunk"


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"replicas": 0}, "--replicas"),
        ({"replicas": 2, "max_replicas": 3}, "exclude each other"),
        ({"min_replicas": 2}, "add max_replicas"),
        ({"target_ongoing_requests": 2}, "add max_replicas"),
        ({"min_replicas": 3, "max_replicas": 2}, "below min_replicas=3"),
        ({"num_gpus": 1.5}, "no whole number"),
        ({"num_gpus": -1}, "--num-gpus"),
        ({"num_cpus": 0}, "--num-cpus"),
        ({"port": 8000}, "--port"),
        ({"engine": "other"}, "--engine"),
    ],
)
def test_what_cannot_work_is_refused(values, told):
    with pytest.raises(ConfigurationError, match=told):
        RayOptions.parse(values)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"n": 1, "selector": "knn"}, "knn"),
        ({"max_waiting": 0}, "--max-waiting"),
        ({"propose_inputs": True}, "--verify"),
        ({"adapter": "sql=./lora", "engine": "vllm", "url": "http://localhost:1"}, "--lora-modules"),
        ({"adapter": "sql=./lora", "engine": "openai", "url": "http://localhost:1"}, "--adapter"),
        ({"url": "http://localhost:1"}, "--url"),
    ],
)
def test_what_does_not_go_together_is_refused_before_a_replica_starts(values, told):
    with pytest.raises(ConfigurationError, match=told):
        RayOptions.parse(values).check()


def test_the_key_is_that_of_the_environment_unless_one_is_given(monkeypatch):
    monkeypatch.setenv("NAD_API_KEY", "from the environment")
    assert RayOptions.parse({}).api_key == ("from the environment",)
    assert RayOptions.parse({"api_key": "given"}).api_key == ("given",)
    # what was read once is not read again
    monkeypatch.delenv("NAD_API_KEY")
    assert RayOptions.parse(RayOptions.parse({"api_key": ["given"]}).model_dump()).api_key == ("given",)
