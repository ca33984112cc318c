"""The HTTP application refuses what brings no key, and pages that have no business on this machine."""

import pytest
from nad_mcp import create_http_app, create_server
from starlette.testclient import TestClient

from nad_agents.testing import ScriptedDecoder

HEADERS = {"accept": "application/json, text/event-stream"}
HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
}


def ask(headers=(), **options):
    app = create_http_app(create_server(ScriptedDecoder("4"), sandbox=None), **options)
    with TestClient(app, base_url="http://127.0.0.1:8001") as http:
        return http.post("/mcp", json=HELLO, headers={**HEADERS, **dict(headers)})


@pytest.mark.parametrize("sent", ["", "Bearer wrong", "Bearer ", "Basic one", "Bearer \N{GREEK SMALL LETTER ALPHA}"])
def test_a_request_without_a_valid_key_is_refused(sent):
    refused = ask({"authorization": sent.encode()} if sent else {}, api_keys=("one", "two"))
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("sent", ["Bearer one", "bearer two"])
def test_each_key_is_admitted(sent):
    assert ask({"authorization": sent}, api_keys=("one", "two")).status_code == 200


def test_without_keys_everybody_is_admitted_by_the_names_of_this_machine():
    hosts = ("127.0.0.1", "::1", "localhost")
    for name in ("127.0.0.1:8001", "localhost", "[::1]:8001"):
        assert ask({"host": name}, hosts=hosts).status_code == 200
    assert ask({"host": "evil.example:8001"}, hosts=hosts).status_code == 421
    assert ask({"origin": "http://evil.example"}, hosts=hosts).status_code == 403
    assert ask({"origin": "http://localhost:3000"}, hosts=hosts).status_code == 200
    assert ask({"host": "evil.example:8001"}).status_code == 200
