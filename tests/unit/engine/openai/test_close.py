"""Connections are closed after the last stream, since one that is being opened while a client closes stays open."""

import threading
from types import SimpleNamespace

import pytest

from nad_agents import NADConfig, NeuronAgreementDecoder, SamplingConfig
from nad_agents.exceptions import GenerationError

openai = pytest.importorskip("openai")


class HeldClient:
    """A client whose requests wait until they are let go, and then have no answer."""

    def __init__(self, **_options):
        self.asked = threading.Semaphore(0)
        self.let_go = threading.Event()
        self.closed = threading.Event()
        self.requests_after_closing = 0
        self.chat = SimpleNamespace(completions=SimpleNamespace(create=self.create))

    def create(self, **_body):
        self.asked.release()
        self.let_go.wait(30)
        self.requests_after_closing += self.closed.is_set()
        raise ConnectionError("nobody answers")

    def close(self):
        self.closed.set()


@pytest.fixture
def client(monkeypatch):
    found = HeldClient()
    monkeypatch.setattr(openai, "OpenAI", lambda **_options: found)
    return found


def make_decoder():
    return NeuronAgreementDecoder(
        "any",
        engine="openai",
        engine_options={"base_url": "http://server/v1"},
        sampling=SamplingConfig(n=3, max_new_tokens=4),
        config=NADConfig(selector="first"),
    )


def test_a_decoder_that_did_nothing_closes_its_client_at_once(client):
    make_decoder().close()
    assert client.closed.is_set()


def test_a_client_is_closed_after_the_last_stream_has_ended(client):
    decoder = make_decoder()
    (pending,) = decoder.submit(["hello"])
    for _ in range(3):
        client.asked.acquire()
    decoder.close()
    assert not client.closed.is_set()
    client.let_go.set()
    assert client.closed.wait(30)
    assert client.requests_after_closing == 0
    with pytest.raises(GenerationError):
        pending.result()
