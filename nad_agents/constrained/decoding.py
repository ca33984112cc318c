"""Constrained decoding: turn a grammar into logits processors, so that candidates can only become what it describes.

llguidance compiles the grammar and computes, token by token, what may follow. `GrammarLogitsProcessor` applies that to
a batch, and `TokenBudget` completes answers before the token limit.
"""

from __future__ import annotations

import json
import re
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from transformers import LogitsProcessor

from nad_agents.constrained.finite_numbers import FiniteNumbers
from nad_agents.constrained.finite_values import endless_reference
from nad_agents.constrained.grammar import Grammar, json_rule
from nad_agents.constrained.logits_processor import GrammarLogitsProcessor
from nad_agents.constrained.number_endings import number_limits
from nad_agents.constrained.regex_width import pattern_growth
from nad_agents.constrained.schema_errors import compile_error_reason, failing_subschema
from nad_agents.constrained.structured_output import StructuredOutput
from nad_agents.constrained.subschemas import has_keyword
from nad_agents.constrained.token_budget import TokenBudget
from nad_agents.constrained.vocabulary_texts import JSON_ENDING_TEXTS, vocabulary_texts
from nad_agents.engine.served_model import ServedModel
from nad_agents.exceptions import ConfigurationError, MissingDependencyError
from nad_agents.fork import ForkSafeLock

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

    from nad_agents.models import LoadedModel

    Model = LoadedModel | ServedModel

__all__ = ["end_tokens", "grammar_tokenizer", "literal_writer", "make_processors", "vocabulary_size"]

_TOKENIZERS: weakref.WeakKeyDictionary[PreTrainedTokenizerBase, LLTokenizer] = weakref.WeakKeyDictionary()
_TOKENIZERS_LOCK = ForkSafeLock()


def make_processors(
    grammar: Grammar, loaded: Model, max_new_tokens: int
) -> Callable[[], Sequence[LogitsProcessor | StructuredOutput]]:
    """Compile a grammar into `logits_processors` for `NeuronAgreementDecoder.submit`.

    Args:
        grammar: The grammar that every candidate has to follow.
        loaded: The model.
        max_new_tokens: Token limit of a candidate.

    Returns:
        A function that makes the processors of one request, which also keep the numbers of JSON finite. For a model
        that another process runs, these carry the grammar, which that process enforces.

    Raises:
        MissingDependencyError: llguidance is not installed.
        ConfigurationError: The grammar cannot be compiled, no finite value fits it, or no complete answer is found (the
            message names the part at fault); or even the shortest answer exceeds the token limit.
    """
    for about, schema in grammar.schemas.items():
        endless = endless_reference(schema)
        if endless is not None:
            msg = (
                f"{about} has no finite value: {endless} needs another value of its own kind; "
                "make the reference optional, or allow null in its place"
            )
            raise ConfigurationError(msg)
    tokenizer = grammar_tokenizer(loaded)
    from llguidance import LLMatcher

    def rejection_reason(lark: str) -> str | None:
        failed, warnings = LLMatcher.validate_grammar_with_warnings(lark, tokenizer)
        return compile_error_reason(warnings[0]) if failed else None

    reason = rejection_reason(grammar.lark)
    if reason is not None:
        raise _compile_error(
            grammar, reason, lambda schema: rejection_reason("start: part\n" + json_rule("part", schema))
        )
    matcher = LLMatcher(tokenizer, grammar.lark)
    budget = _make_token_budget(grammar, matcher, loaded, max_new_tokens)
    if isinstance(loaded, ServedModel):
        schemas = list(grammar.schemas.values())
        # a rule for calls surrounds the schema of the arguments with text
        only_schema = schemas[0] if len(schemas) == 1 and "calls:" not in grammar.lark else None
        return lambda: [StructuredOutput(grammar.lark, only_schema)]
    finite = FiniteNumbers(vocabulary_texts(loaded.tokenizer)) if grammar.json else None
    return lambda: [GrammarLogitsProcessor(matcher.deep_copy(), end_tokens(loaded), max_new_tokens, budget, finite)]


def _compile_error(
    grammar: Grammar, reason: str, rejection_reason: Callable[[Mapping[str, Any]], str | None]
) -> ConfigurationError:
    for about, schema in grammar.schemas.items():
        found = failing_subschema(schema, rejection_reason)
        if found is not None:
            where = f"{found[0]} in {about}" if found[0] else about
            return ConfigurationError(
                f"{where} cannot be turned into a grammar: {found[1]}; leave that part out of the schema"
            )
    return ConfigurationError(f"{grammar.about} cannot be turned into a grammar: {reason}")


def literal_writer(loaded: Model) -> Callable[[str], str]:
    """Make a function that writes literal text into a grammar.

    Parts of the text for which the model has a special token, such as <tool_call>, are written as that token.
    """
    tokenizer = grammar_tokenizer(loaded)
    special = {t: i for t, i in loaded.tokenizer.get_added_vocab().items() if tokenizer.is_special_token(i)}
    pattern = re.compile("|".join(re.escape(token) for token in sorted(special, key=len, reverse=True)) or r"(?!)")

    def write(text: str) -> str:
        written, at = [], 0
        for found in pattern.finditer(text):
            written += [json.dumps(text[at : found.start()])] * (found.start() > at) + [f"<[{special[found[0]]}]>"]
            at = found.end()
        return " ".join(written + [json.dumps(text[at:])] * (at < len(text)))

    return write


def _make_token_budget(grammar: Grammar, matcher: LLMatcher, loaded: Model, max_new_tokens: int) -> TokenBudget:
    """Make the token budget of a grammar.

    Raises:
        ConfigurationError: Not even the shortest answer fits into the token limit.
    """

    def count_tokens(text: str) -> int:
        return len(loaded.tokenizer(text, add_special_tokens=False)["input_ids"])

    opening_tokens = max((count_tokens(text) for text in grammar.openings), default=0)
    budget = TokenBudget(
        loaded.tokenizer,
        vocabulary_size(loaded),
        end_tokens(loaded),
        opening_tokens,
        max(map(pattern_growth, grammar.schemas.values()), default=0),
        JSON_ENDING_TEXTS if grammar.json else (),
        number_limits(list(grammar.schemas.values())),
        distinct_keys=has_keyword(list(grammar.schemas.values()), "minProperties"),
    )
    # only for JSON is the ending that is found a short one, since a pattern may have much shorter ones
    shortest = budget.shortest_ending(matcher) if grammar.json else None
    if grammar.json and shortest is None:
        raise _no_ending_error(grammar, budget, loaded)
    needed = max(count_tokens(grammar.shortest), len(shortest or ())) + 1
    if grammar.shortest and max_new_tokens < needed:
        msg = (
            f"{grammar.about} needs about {needed + opening_tokens} tokens, but max_tokens={max_new_tokens}; "
            "raise max_tokens"
        )
        raise ConfigurationError(msg)
    return budget


def _no_ending_error(grammar: Grammar, budget: TokenBudget, loaded: Model) -> ConfigurationError:
    """Return an error that names the part of a schema for which no way to the end is found."""
    from llguidance import LLMatcher

    tokenizer = grammar_tokenizer(loaded)

    def endless(schema: Mapping[str, Any]) -> str | None:
        matcher = LLMatcher(tokenizer, "start: part\n" + json_rule("part", schema))
        return "no end" if matcher.is_error() or budget.shortest_ending(matcher) is None else None

    for about, schema in grammar.schemas.items():
        found = failing_subschema(schema, endless)
        if found is not None:
            where = f"{found[0]} in {about}" if found[0] else about
            break
    else:
        where = grammar.about
    msg = f"no way to complete {where} was found, so answers could break off; ask for something simpler in that part"
    return ConfigurationError(msg)


def vocabulary_size(loaded: Model) -> int:
    """Return a model's number of logits, which may exceed the size of its tokenizer."""
    if isinstance(loaded, ServedModel):
        return loaded.vocabulary_size
    return int(cast("Any", loaded.model).get_output_embeddings().weight.shape[0])


def grammar_tokenizer(loaded: Model) -> LLTokenizer:
    """Return llguidance's view of a model's tokenizer, which takes a second to make and is made once.

    Raises:
        MissingDependencyError: llguidance is not installed.
        ConfigurationError: llguidance cannot use the tokenizer.
    """
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


def end_tokens(loaded: Model) -> list[int]:
    """Return the ids of the tokens that end a candidate.

    Raises:
        ConfigurationError: The model has no such token, so that a grammar could not end an answer.
    """
    if isinstance(loaded, ServedModel) and loaded.end_tokens:
        return list(loaded.end_tokens)
    config = None if isinstance(loaded, ServedModel) else loaded.model.generation_config
    ends = config.eos_token_id if config is not None else None
    ends = loaded.tokenizer.eos_token_id if ends is None else ends
    if ends is None or ends == []:
        msg = (
            f"{loaded.name} has no end token, so no grammar can end its answers; set eos_token of the tokenizer, or "
            "eos_token_id in generation_config.json"
        )
        raise ConfigurationError(msg)
    return [int(token) for token in (ends if isinstance(ends, list | tuple) else [ends])]
