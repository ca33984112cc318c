"""What callers get of captured steps: pruning, grammars, and several requests at the same time."""

import json

import jsonschema
import pytest

from nad_agents import NADConfig, NeuronAgreementDecoder, testing
from nad_agents.constrained.decoding import make_processors
from nad_agents.constrained.grammar import Grammar
from nad_agents.types import SamplingConfig

SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
SAMPLING = SamplingConfig(n=8, max_new_tokens=60, temperature=1.0, top_k=0, top_p=1.0, seed=2)


@pytest.mark.parametrize("pruning", ["halving", "first_chunk"])
def test_pruned_candidates_of_a_grammar_beside_free_ones(recorded, pruning):
    loaded = testing.tiny_model("llama")
    config = NADConfig(pruning=pruning, chunk_size=8, selector="knn", keep=2)
    grammar = Grammar(f"start: %json {json.dumps(SCHEMA)}\n", "it", '{"a": ""}')
    found = []
    for option in (False, True):
        decoder = NeuronAgreementDecoder(
            loaded, sampling=SAMPLING, config=config, engine_options={"compile": option}, max_rows=20
        )
        processors = make_processors(grammar, decoder.loaded, SAMPLING.max_new_tokens)
        pending = [
            *decoder.submit(["one", "two"], logits_processors=processors),
            *decoder.submit(["three", "four"]),
        ]
        found.append([one.result() for one in pending])
        decoder.close()
        assert option is False or decoder.engine._captured.buffers.bytes_held == 0
    assert sum(graphs.replayed for graphs in recorded) > 60
    for own, captured in zip(*found, strict=True):
        assert [candidate.text for candidate in captured.candidates] == [c.text for c in own.candidates]
        assert [c.finish_reason for c in captured.candidates] == [c.finish_reason for c in own.candidates]
        assert captured.ranking == own.ranking
        assert any(candidate.finish_reason == "pruned" for candidate in captured.candidates)
    for selection in found[1][:2]:
        jsonschema.validate(json.loads(selection.text), SCHEMA)
