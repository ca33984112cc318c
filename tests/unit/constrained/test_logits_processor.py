"""Candidates of one request under a grammar: rows that leave, free requests in the same batch, masks on threads."""

import json

import jsonschema

from nad_agents.constrained import logits_processor
from nad_agents.constrained.decoding import make_processors
from nad_agents.constrained.grammar import Grammar
from tests.unit.constrained.schemas import SCHEMAS, shaped
from tests.unit.langchain.chats import tiny_chat


def test_rows_may_leave_at_any_step():
    chat = tiny_chat(max_tokens=120, n=8, pruning="first_chunk", keep=2, chunk_size=16)
    message = chat.invoke("hello", response_format=shaped(SCHEMAS["numbers"]), include_candidates=True)
    candidates = message.response_metadata["nad"]["candidates"]
    whole = [c for c in candidates if c["finish_reason"] != "pruned"]
    assert len(whole) < 8
    for candidate in whole:
        jsonschema.validate(json.loads(candidate["text"]), SCHEMAS["numbers"])


def test_a_constrained_request_beside_free_ones():
    chat = tiny_chat(max_tokens=80)
    alone = chat.invoke("free")
    decoder = chat.get_decoder()
    settings = chat.settings()
    processors = make_processors(
        Grammar(f"start: %json {json.dumps(SCHEMAS['flat'])}\n", "it", '{"a": ""}'), decoder.loaded, 80
    )
    options = {"sampling": settings.sampling, "config": settings.config}
    pending = [
        *decoder.submit(["free"], **options),
        *decoder.submit(["one", "two"], logits_processors=processors, **options),
        *decoder.submit(["free"], **options),
    ]
    free, one, two, again = (p.result() for p in pending)
    assert free.text == again.text == alone.content
    for selection in (one, two):
        for candidate in selection.candidates:
            jsonschema.validate(json.loads(candidate.text), SCHEMAS["flat"])


def test_masks_are_the_same_on_one_thread_and_on_several(monkeypatch):
    chat, texts = tiny_chat(max_tokens=60), []
    for workers in (1, 2):
        monkeypatch.setattr(logits_processor, "_WORKERS", workers)
        message = chat.invoke("hello", response_format=shaped(SCHEMAS["flat"]), include_candidates=True)
        texts.append([candidate["text"] for candidate in message.response_metadata["nad"]["candidates"]])
    assert len(set(texts[0])) > 1
    assert texts[0] == texts[1]


def test_neurons_are_those_of_the_constrained_tokens():
    chat = tiny_chat(max_tokens=60)
    message = chat.invoke("hello", response_format=shaped(SCHEMAS["flat"]), include_candidates=True)
    evidence = message.response_metadata["nad"]
    assert evidence["selector"] == "nad_fusion"
    assert all(c["activated_neurons"] >= 12 for c in evidence["candidates"])
