"""`nad serve` up to the moment at which it listens."""

import socket
import sys

import nad_server.uvicorn_server
import pytest
from nad_sandbox import SandboxUnavailableError, UnsafeLocalSandbox
from nad_server.options import _default_names
from nad_server.python_verifier import ProposedInputs

from nad_agents import PromptError
from nad_agents.cli import main
from tests.adapters import write_adapter
from tests.tiny_models import make_model, save_model


@pytest.fixture
def serve(monkeypatch, capsys):
    """Run `nad serve ARGS`; returns (exit code, what is served, stderr)."""

    def run(*args):
        served = []
        monkeypatch.setattr(nad_server.uvicorn_server, "serve", lambda app, **place: served.append((app, place)))
        # the default port may be taken on the machine that runs the tests
        given = args if "--port" in args or "--ray" in args else (*args, "--port", 0)
        monkeypatch.setattr(sys, "argv", ["nad", "serve", *map(str, given)])
        monkeypatch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, served, capsys.readouterr().err

    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("secret") / "tiny-model"
    save_model(make_model("llama"), path)
    return path


def test_what_is_served(serve, folder, monkeypatch):
    monkeypatch.setenv("NAD_API_KEY", "from the environment")
    code, [(app, place)], err = serve(
        "-m", folder, "--n", 3, "--selector", "medoid", "--early-stop", "--max-rows", 12, "--min-temperature", 0.5
    )
    state = app.state.server
    assert code == 0
    assert place == {"host": "127.0.0.1", "port": 0}
    # the folder is nobody's business
    assert state.names == ("tiny-model",)
    assert state.settings.api_keys == ("from the environment",)
    assert state.settings.hosts == ()
    assert (state.decoder.sampling.n, state.decoder.config.selector) == (3, "medoid")
    assert state.decoder.config.pruning == "first_chunk"
    assert state.settings.max_rows == state.decoder._scheduler.max_rows == 12
    assert state.verifier is state.runner is None
    assert "everybody" not in err


def test_an_open_address_without_a_key_is_warned_of(serve, folder, monkeypatch):
    monkeypatch.delenv("NAD_API_KEY", raising=False)
    code, [(app, place)], err = serve("-m", folder, "--host", "0.0.0.0", "--port", 0)
    assert code == 0
    assert place == {"host": "0.0.0.0", "port": 0}
    assert app.state.server.settings.hosts == ()
    assert "everybody" in err


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.0.2"])
def test_this_machine_alone_without_a_key_is_no_web_pages_either(serve, folder, monkeypatch, host):
    monkeypatch.delenv("NAD_API_KEY", raising=False)
    code, [(app, _)], err = serve("-m", folder, "--host", host, "--shutdown-seconds", 2)
    assert code == 0
    assert {"127.0.0.1", "localhost", "::1", host} == set(app.state.server.settings.hosts)
    assert app.state.server.settings.shutdown_seconds == 2
    assert "everybody" not in err


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--n", "1", "--selector", "knn"], "knn"),
        (["--selector", "best"], "best"),
        (["--api-key", ""], "API key"),
        (["--min-temperature", "5"], "--min-temperature"),
        (["--max-waiting", "0"], "--max-waiting"),
        (["--shutdown-seconds", "-1"], "--shutdown-seconds"),
        (["--selector", "behaviour"], "runner"),
        (["--propose-inputs"], "--verify"),
        (["--replicas", "2"], "--ray"),
        (["--ray-address", "local"], "--ray"),
        (["--ray", "--replicas", "2", "--max-replicas", "3"], "exclude each other"),
        (["--ray", "--num-gpus", "1.5"], "whole"),
        (["--ray", "--selector", "best"], "best"),
        (["--ray", "--port", "0"], "--port"),
    ],
)
def test_what_cannot_work_is_refused_before_the_model_is_loaded(serve, options, named):
    code, served, err = serve("-m", "/no/such/model", *options)
    assert code == 2
    assert not served
    assert named in err


def test_inputs_are_proposed_where_that_is_asked_for(serve, folder, monkeypatch):
    made = UnsafeLocalSandbox()
    monkeypatch.setattr("nad_sandbox.auto_sandbox", lambda kind: made)
    for options, proposing in (([], False), (["--propose-inputs"], True)):
        code, [(app, _)], _ = serve("-m", folder, "--verify", "auto", *options)
        state = app.state.server
        assert code == 0
        assert state.sandbox is made
        assert (state.runner.propose is not None) is proposing
    assert state.runner.propose.propose.decoder is state.decoder


def test_a_proposal_that_cannot_be_had_is_none():
    def refuses(prompt, parameters):
        raise PromptError(f"the prompt {prompt!r} has too many tokens")

    assert ProposedInputs(lambda prompt, parameters: [prompt, parameters])("a", None) == ["a", None]
    assert ProposedInputs(refuses)("a", None) == []


def test_a_port_that_is_taken_is_refused_before_the_model_is_loaded(serve):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, served, err = serve("-m", "/no/such/model", "--port", port)
    assert (code, served) == (2, [])
    assert err.startswith(f"error: --host 127.0.0.1 --port {port}: address already in use; ")


def test_without_a_sandbox_there_is_no_server_that_verifies(serve, monkeypatch):
    def none(kind):
        raise SandboxUnavailableError(f"no {kind}")

    monkeypatch.setattr("nad_sandbox.auto_sandbox", none)
    code, served, err = serve("-m", "/no/such/model", "--verify", "auto")
    assert (code, served) == (4, [])
    assert "no auto" in err


@pytest.mark.parametrize(
    ("package", "module"), [("fastapi", "app"), ("prometheus_client", "metrics"), ("uvicorn", "uvicorn_server")]
)
def test_without_the_extra_the_error_says_how_to_install_it(monkeypatch, capsys, package, module):
    monkeypatch.setitem(sys.modules, package, None)
    for name in ("app", module):
        monkeypatch.delitem(sys.modules, f"nad_server.{name}", raising=False)
    monkeypatch.setattr(sys, "argv", ["nad", "serve", "-m", "/no/such/model"])
    with pytest.raises(SystemExit) as ended:
        main()
    err = capsys.readouterr().err
    assert ended.value.code == 4
    assert err == f"error: the server needs {package}; install it with: pip install 'nad-agents[server]'\n"


@pytest.mark.parametrize("command", [["serve"], ["bench", "TASKS", "--out", "RUN", "--no-judge"]])
def test_without_ray_the_error_says_how_to_install_it(monkeypatch, capsys, tmp_path, command):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "TASKS").write_text('{"task_id": "1", "question": "1 + 1?", "answer": "2"}\n')
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setattr(sys, "argv", ["nad", *command, "-m", "/no/such/model", "--ray"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 4
    told = "error: a Ray cluster needs ray; install it with: pip install 'nad-agents[ray]'\n"
    assert capsys.readouterr().err == told


def test_names():
    assert _default_names("org/model") == ("org/model", "model")
    assert _default_names("/somewhere/model.gguf") == ("model",)
    assert _default_names("gpt2") == ("gpt2",)


@pytest.fixture(scope="module")
def adapters(tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapters")
    for seed, name in enumerate(("first", "second")):
        write_adapter(make_model("llama"), folder / name, seed=seed)
    return folder


class TestAdapters:
    def test_each_has_a_name_and_all_share_the_weights(self, serve, folder, adapters):
        code, [(app, _)], _ = serve(
            "-m", folder, "--adapter", f"one={adapters / 'first'}", "--adapter", f"two={adapters / 'second'}"
        )
        state = app.state.server
        assert code == 0
        assert state.names == ("tiny-model", "one", "two")
        base = {parameter.data_ptr() for parameter in state.decoder.loaded.model.parameters()}
        for decoder in state.adapters.values():
            assert {parameter.data_ptr() for parameter in decoder.loaded.model.parameters()} > base
            assert decoder.config == state.decoder.config

    @pytest.mark.parametrize("value", ["no-equals-sign", "=folder", "name=", "a@b=folder"])
    def test_not_name_and_adapter(self, serve, folder, value):
        code, served, err = serve("-m", folder, "--adapter", value)
        assert code != 0
        assert not served
        assert "write NAME=ADAPTER" in err

    def test_the_name_of_the_model(self, serve, folder, adapters):
        code, served, err = serve("-m", folder, "--adapter", f"tiny-model={adapters / 'first'}")
        assert code != 0
        assert not served
        assert "not all different" in err

    def test_no_adapter_there(self, serve, folder, tmp_path):
        code, served, err = serve("-m", "owner/never-fetched", "--adapter", f"one={tmp_path}")
        assert code != 0
        assert not served
        assert "adapter_config.json" in err
