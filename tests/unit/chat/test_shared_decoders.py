"""One decoder per model, device and dtype, however many models and threads ask for it."""

import threading
import time

from langchain_nad import NADChatModel

from nad_agents import decoder as module
from nad_agents.chat.shared_decoders import unload_models
from tests.unit.langchain.chats import tiny_decoder


def test_models_of_the_same_name_share_one_decoder(monkeypatch):
    made = []

    def load(model, **options):
        time.sleep(0.05)
        made.append(model)
        return tiny_decoder()

    monkeypatch.setattr(module, "NeuronAgreementDecoder", load)
    unload_models()
    chats = [NADChatModel(model="some/model", device="cpu", dtype="float32") for _ in range(8)]
    found = []
    threads = [threading.Thread(target=lambda c=c: found.append(c.get_decoder())) for c in chats]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, found))) == 1
    assert made == ["some/model"]
    assert NADChatModel(model="another", device="cpu").get_decoder() is not found[0]
    assert unload_models() == 2
    assert chats[0].get_decoder() is found[0]
    assert NADChatModel(model="some/model", device="cpu", dtype="float32").get_decoder() is not found[0]
    unload_models()
