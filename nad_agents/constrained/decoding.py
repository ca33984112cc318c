"""Constrained decoding: candidates can only become what a grammar describes.

llguidance compiles the grammar and says, token by token, what may follow; this module keeps its matchers in step with
a batch whose rows leave at any time, and brings answers to their end when a candidate nears its token limit.
"""

from __future__ import annotations

import functools
import json
import os
import re
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from transformers import LogitsProcessor

from nad_agents.constrained.grammar import Grammar, json_rule
from nad_agents.constrained.inexpressible import engine_reason, failing_part
from nad_agents.constrained.shortest_json import pattern_growth
from nad_agents.constrained.token_budget import JSON_STEPS, Closer, Ending
from nad_agents.exceptions import ConfigurationError, GenerationError, MissingDependencyError

if TYPE_CHECKING:
    from llguidance import LLExecutor, LLMatcher, LLTokenizer
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

    from nad_agents.models import LoadedModel

__all__ = [
    "GrammarProcessor",
    "end_tokens",
    "executor",
    "grammar_tokenizer",
    "literal_writer",
    "make_processors",
    "vocabulary_size",
]

_TOKENIZERS: weakref.WeakKeyDictionary[PreTrainedTokenizerBase, LLTokenizer] = weakref.WeakKeyDictionary()
_TOKENIZERS_LOCK = threading.Lock()

_WORKERS = max(1, min(32, int(0.8 * (os.cpu_count() or 1))))
"""Threads of the grammar engine: its own default."""


def make_processors(grammar: Grammar, loaded: LoadedModel, max_new_tokens: int) -> Callable[[], list[LogitsProcessor]]:
    """What `NeuronAgreementDecoder.submit` takes as `logits_processors`.

    Args:
        grammar: what every candidate has to follow.
        loaded: the model.
        max_new_tokens: token limit of a candidate.

    Raises:
        MissingDependencyError: llguidance is not installed.
        ConfigurationError: the grammar cannot be compiled; says which part.
    """
    tokenizer = grammar_tokenizer(loaded)
    from llguidance import LLMatcher

    def refuses(lark: str) -> str | None:
        failed, warnings = LLMatcher.validate_grammar_with_warnings(lark, tokenizer)
        return engine_reason(warnings[0]) if failed else None

    reason = refuses(grammar.lark)
    if reason is not None:
        raise _inexpressible(grammar, reason, lambda schema: refuses("start: part\n" + json_rule("part", schema)))
    matcher = LLMatcher(tokenizer, grammar.lark)
    closer = _closer(grammar, matcher, loaded, max_new_tokens)
    return lambda: [GrammarProcessor(matcher.deep_copy(), end_tokens(loaded), max_new_tokens, closer)]


def _inexpressible(
    grammar: Grammar, reason: str, refuses: Callable[[Mapping[str, Any]], str | None]
) -> ConfigurationError:
    for about, schema in grammar.schemas.items():
        found = failing_part(schema, refuses)
        if found is not None:
            where = f"{found[0]} in {about}" if found[0] else about
            return ConfigurationError(
                f"{where} cannot be turned into a grammar: {found[1]}; leave that part out of the schema"
            )
    return ConfigurationError(f"{grammar.about} cannot be turned into a grammar: {reason}")


def literal_writer(loaded: LoadedModel) -> Callable[[str], str]:
    """Writes text into a grammar so that tokens which the model has for parts of it, such as <tool_call>, are used."""
    tokenizer = grammar_tokenizer(loaded)
    own = {t: i for t, i in loaded.tokenizer.get_added_vocab().items() if tokenizer.is_special_token(i)}
    pattern = re.compile("|".join(re.escape(token) for token in sorted(own, key=len, reverse=True)) or r"(?!)")

    def write(text: str) -> str:
        written, at = [], 0
        for found in pattern.finditer(text):
            written += [json.dumps(text[at : found.start()])] * (found.start() > at) + [f"<[{own[found[0]]}]>"]
            at = found.end()
        return " ".join(written + [json.dumps(text[at:])] * (at < len(text)))

    return write


def _closer(grammar: Grammar, matcher: LLMatcher, loaded: LoadedModel, max_new_tokens: int) -> Closer:
    """What brings candidates to their end in time.

    Raises:
        ConfigurationError: not even the shortest answer fits into the limit.
    """

    def tokens(text: str) -> int:
        return len(loaded.tokenizer(text, add_special_tokens=False)["input_ids"])

    jump = max((tokens(text) for text in grammar.openings), default=0)
    growth = max(map(pattern_growth, grammar.schemas.values()), default=0)
    steps = JSON_STEPS if grammar.json else ()
    closer = Closer(loaded.tokenizer, vocabulary_size(loaded), end_tokens(loaded), jump, growth, steps)
    # the way that is found is short in JSON, while a pattern may have much shorter ones
    path = closer.path(matcher) if grammar.json else None
    needed = max(tokens(grammar.shortest), len(path or ())) + 1
    if grammar.shortest and max_new_tokens < needed:
        msg = f"{grammar.about} needs about {needed + jump} tokens, but max_tokens={max_new_tokens}; raise max_tokens"
        raise ConfigurationError(msg)
    return closer


def vocabulary_size(loaded: LoadedModel) -> int:
    """Number of logits, which may be more than the tokenizer has tokens."""
    return int(cast("Any", loaded.model).get_output_embeddings().weight.shape[0])


def grammar_tokenizer(loaded: LoadedModel) -> LLTokenizer:
    """What llguidance knows of a tokenizer; made once, as it takes a second."""
    try:
        import llguidance.hf
    except ImportError as error:
        msg = "tools and structured output need llguidance; install it with: pip install 'nad-agents[grammar]'"
        raise MissingDependencyError(msg) from error
    with _TOKENIZERS_LOCK:
        found = _TOKENIZERS.get(loaded.tokenizer)
        if found is None:
            tokenizer = cast("Any", loaded.tokenizer)
            try:
                found = llguidance.hf.from_tokenizer(tokenizer, vocabulary_size(loaded), end_tokens(loaded))
            except ValueError as error:
                msg = f"{loaded.name} has a tokenizer that grammars cannot use: {error}"
                raise ConfigurationError(msg) from error
            _TOKENIZERS[loaded.tokenizer] = found
    return found


def end_tokens(loaded: LoadedModel) -> list[int]:
    """Tokens that end a candidate."""
    config = loaded.model.generation_config
    ends = config.eos_token_id if config is not None else None
    ends = loaded.tokenizer.eos_token_id if ends is None else ends
    return [int(token) for token in (ends if isinstance(ends, list | tuple) else [ends])]


@dataclass
class _Row:
    """A candidate as the grammar sees it."""

    matcher: LLMatcher
    tokens: list[int]
    ended: bool = False
    ending: Ending = field(default_factory=Ending)


class GrammarProcessor(LogitsProcessor):
    """Forbids every token that the grammar does not allow, for the rows of one request.

    Rows leave the batch between steps and keep their order. Which ones left is seen from their tokens: the rows that
    are still there are a subsequence of those of the step before, each one token longer. Rows with the same tokens
    are in the same state, so that confusing them does no harm.

    Args:
        matcher: at the start of the grammar.
        end_tokens: tokens that end a candidate.
        max_new_tokens: token limit of a candidate.
        closer: ends answers in time.
    """

    def __init__(self, matcher: LLMatcher, end_tokens: Sequence[int], max_new_tokens: int, closer: Closer) -> None:
        self._start = matcher
        self._end_tokens = set(end_tokens)
        self._limit = max_new_tokens
        self._closer = closer
        self._prompt_length = -1
        self._rows: list[_Row] = []
        self._before: torch.Tensor | None = None

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Scores with minus infinity where the grammar forbids a token.

        Args:
            input_ids: int64 [rows, prompt + generated] of the live rows.
            scores: float32 [rows, vocabulary].

        Raises:
            GenerationError: the grammar engine gave up, because the schema is too complex.
        """
        ids = input_ids.cpu()
        if self._prompt_length < 0:
            self._prompt_length = ids.shape[1]
            self._rows = [_Row(self._start.deep_copy(), []) for _ in range(len(ids))]
        else:
            self._follow(ids)
        self._before = ids
        allowed, open_rows = self._allowed(scores.shape[1])
        for i in open_rows:
            row = self._rows[i]
            self._closer.narrow(row.ending, row.matcher, row.tokens, self._limit - len(row.tokens), allowed[i])
        _forbid(scores, allowed)
        return scores

    def _allowed(self, vocabulary: int) -> tuple[torch.Tensor, list[int]]:
        """Bool [rows, vocabulary], what the grammar allows next, all where a row has ended; the rows with a choice."""
        words = np.full((len(self._rows), (vocabulary + 31) // 32), -1, np.int32)
        matchers = [(row.matcher, i) for i, row in enumerate(self._rows) if not row.ended]
        if _WORKERS > 1:
            # several rows in parallel, and without Python's lock
            executor().unsafe_compute_mask_ptr(matchers, words.ctypes.data, words.strides[0], len(words))
        else:
            # a single worker makes them no faster, and waking it takes many times as long as a mask
            for matcher, i in matchers:
                matcher.unsafe_compute_mask_ptr(words.ctypes.data + i * words.strides[0], words.strides[0])
        bits = np.unpackbits(words.view(np.uint8), axis=1, count=vocabulary, bitorder="little")
        several = np.bitwise_count(words.view(np.uint32)).sum(axis=1) > 1
        return torch.from_numpy(bits.view(np.bool_)), [i for _, i in matchers if several[i]]

    def _follow(self, ids: torch.Tensor) -> None:
        """Find out which rows are still there, and give each matcher its row's new token."""
        assert self._before is not None
        if len(ids) != len(self._before) or not torch.equal(ids[:, :-1], self._before):
            generated = ids[:, self._prompt_length : -1].tolist()
            earlier = iter(self._rows)
            self._rows = [next(row for row in earlier if row.tokens == tokens) for tokens in generated]
        for row, token in zip(self._rows, ids[:, -1].tolist(), strict=True):
            row.tokens.append(token)
            # a row that has ended stays in the batch until the next compaction, whatever is drawn for it
            row.ended = row.ended or token in self._end_tokens
            if not row.ended and not row.matcher.consume_token(token):
                msg = f"the grammar could not follow a candidate: {row.matcher.get_error() or 'token not allowed'}"
                raise GenerationError(msg)


def _forbid(scores: torch.Tensor, allowed: torch.Tensor) -> None:
    """Minus infinity, in place, where a token is not allowed; the engine gives away a copy of the logits."""
    if scores.device.type == "cpu":
        # torch takes several times as long for it
        np.copyto(scores.numpy(), -np.inf, where=~allowed.numpy())
    else:
        scores.masked_fill_(~allowed.to(scores.device), -torch.inf)


@functools.cache
def executor() -> LLExecutor:
    """Threads of the grammar engine, shared by every request."""
    from llguidance import LLExecutor

    return LLExecutor(_WORKERS)
