"""Fakes for tests of programs that use nad_agents.

A `ScriptedDecoder` gives the answers, rankings and scores that a test names, in milliseconds and without torch; it goes
wherever a `NeuronAgreementDecoder` goes: `NADChatModel(decoder=...)`, LlamaIndex' `NADLLM(decoder=...)`, `create_app`.
An `AcceptingVerifier` accepts the answers that a test names. Where the real decoder has to run, `tiny_model` makes a
random model in memory.

>>> from nad_agents.testing import ScriptedAnswer, ScriptedDecoder
>>> decoder = ScriptedDecoder(ScriptedAnswer(["4", "five"], ranking=[1, 0]))
>>> decoder.decode("What is 2 + 2?").text
'five'
"""

from __future__ import annotations

from nad_agents.testing.decoder import ScriptedDecoder
from nad_agents.testing.models import byte_tokenizer, tiny_model
from nad_agents.testing.pending import ScriptedRequest
from nad_agents.testing.script import ScriptedAnswer
from nad_agents.testing.verifier import AcceptingVerifier

__all__ = [
    "AcceptingVerifier",
    "ScriptedAnswer",
    "ScriptedDecoder",
    "ScriptedRequest",
    "byte_tokenizer",
    "tiny_model",
]
