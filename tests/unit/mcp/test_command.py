"""`nad mcp` up to the moment at which it serves."""

import sys

import nad_mcp.http
import pytest
import typer
from mcp.server.mcpserver import MCPServer
from nad_mcp.command import mcp

from nad_agents.cli import commands
from tests.tiny_models import make_model, save_model


@pytest.fixture
def run(monkeypatch, capsys):
    """Run `nad mcp ARGS`; returns (exit code, the server or application that is run, stderr)."""

    def run(*args):
        served = []
        monkeypatch.setattr(MCPServer, "run", lambda server, transport: served.append((server, transport)))
        monkeypatch.setattr(nad_mcp.http, "run_http", lambda app, **place: served.append((app, place)))
        app = typer.Typer()
        app.command("mcp")(mcp)
        app.callback()(lambda: None)
        monkeypatch.setattr(commands, "app", app)
        monkeypatch.setattr(commands, "_add_plugin_commands", lambda: None)
        monkeypatch.setattr(sys, "argv", ["nad", "mcp", *map(str, args)])
        monkeypatch.setenv("COLUMNS", "200")
        monkeypatch.delenv("NAD_API_KEY", raising=False)
        with pytest.raises(SystemExit) as ended:
            commands.main()
        return ended.value.code, served, capsys.readouterr().err

    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    save_model(make_model("llama"), path)
    return path


def test_stdio_is_the_default(run, folder):
    code, [(server, transport)], err = run("-m", folder)
    assert (code, transport, err) == (0, "stdio", "")
    assert server.name == "nad-agents"


def test_a_model_that_cannot_be_loaded_is_said_at_once_and_over_http_ends_the_command(run):
    code, served, err = run("-m", "/no/such/model")
    assert (code, len(served)) == (0, 1)
    assert "/no/such/model" in err
    code, served, err = run("-m", "/no/such/model", "--transport", "http", "--port", 0)
    assert (code, served) == (4, [])
    assert "/no/such/model" in err


def test_http_listens_where_it_is_told(run, folder):
    code, [(app, place)], _ = run("-m", folder, "--transport", "http", "--port", 0, "--selector", "behaviour")
    assert (code, place) == (0, {"host": "127.0.0.1", "port": 0})
    assert [route.path for route in app.routes] == ["/mcp"]
    code, served, _ = run("-m", folder, "--transport", "http", "--host", "0.0.0.0", "--port", 0, "--api-key", "secret")
    assert (code, len(served)) == (0, 1)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--transport", "http", "--host", "0.0.0.0"], "--api-key"),
        (["--transport", "http", "--host", "example.org"], "--api-key"),
        (["--api-key", ""], "an API key is empty"),
        (["--n", "1", "--selector", "knn"], "knn"),
        (["--selector", "best"], "best"),
        (["--url", "http://localhost:1"], "--engine"),
    ],
)
def test_what_cannot_work_is_refused_before_the_model_is_loaded(run, options, named):
    code, served, err = run("-m", "/no/such/model", *options)
    assert (code, served) == (2, [])
    assert named in err
    assert "no/such" not in err


def test_without_the_extra_the_error_says_how_to_install_it(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "mcp.server.mcpserver", None)
    for name in ("http", "server", "tools"):
        monkeypatch.delitem(sys.modules, f"nad_mcp.{name}", raising=False)
    code, served, err = run("-m", "/no/such/model")
    assert (code, served) == (4, [])
    assert "pip install 'nad-agents[mcp]'" in err
