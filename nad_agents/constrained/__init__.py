"""Constrained decoding: candidates that can only become what a grammar or a JSON schema describes.

`Grammar` writes down what an answer may look like, `make_processors` turns it into logits processors for
`NeuronAgreementDecoder.submit`; that needs the extra ``grammar`` (llguidance).
"""

from nad_agents.constrained.grammar import Grammar, json_grammar

__all__ = ["Grammar", "json_grammar"]
