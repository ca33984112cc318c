"""Constrained decoding: candidates that can only become what a grammar or a JSON schema describes.

A `Grammar` describes the form of an answer, and `nad_agents.constrained.decoding.make_processors` compiles it into
logits processors for `NeuronAgreementDecoder.submit`. Compiling needs the extra ``grammar`` (llguidance).
"""

from nad_agents.constrained.grammar import Grammar, json_grammar

__all__ = ["Grammar", "json_grammar"]
