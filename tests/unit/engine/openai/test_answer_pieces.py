"""Chunks of a stream, as servers send them, become pieces: text with log-probabilities, thinking, tool calls."""

import math

import pytest
from openai.types.chat.chat_completion_chunk import Choice
from openai.types.completion_choice import CompletionChoice

from nad_agents.engine.openai.answer_pieces import AnswerPiece, PieceReader, PieceTable


def chunk(*tokens, **delta):
    """One chunk of a chat, with a log-probability for each (token, log-probability) in `tokens`."""
    content = [{"token": token, "logprob": logprob, "bytes": None, "top_logprobs": []} for token, logprob in tokens]
    logprobs = {"content": content} if tokens else None
    return Choice.model_validate({"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": None})


def read(*chunks, room=100):
    reader = PieceReader(room)
    return [*(piece for one in chunks for piece in reader.read(one)), *reader.end()]


def texts(pieces):
    return [piece.text for piece in pieces]


def test_each_token_is_a_piece_with_its_log_probability():
    pieces = read(chunk(("Hel", -1.0), ("lo", -2.0), content="Hello"), chunk(("!", -0.5), content="!"))
    assert [(piece.text, piece.logprob) for piece in pieces] == [("Hel", -1.0), ("lo", -2.0), ("!", -0.5)]


def test_tokens_that_share_a_character_keep_their_log_probabilities():
    pieces = read(chunk(("\N{REPLACEMENT CHARACTER}", -1.0), ("\N{REPLACEMENT CHARACTER}", -2.0), content="é"))
    assert [(piece.text, piece.logprob) for piece in pieces] == [("é", -1.0), ("", -2.0)]


def test_completions_have_their_own_form():
    logprobs = {"tokens": ["a", "b"], "token_logprobs": [-1.0, -2.0], "top_logprobs": [{"a": -1.0}, {"b": -2.0}]}
    one = {"index": 0, "text": "ab", "logprobs": logprobs, "finish_reason": "stop"}
    pieces = read(CompletionChoice.model_validate(one))
    assert [(piece.text, piece.logprob, piece.confidence) for piece in pieces] == [("a", -1.0, 1.0), ("b", -2.0, 2.0)]


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_thinking_in_several_chunks_is_not_text_without_log_probabilities(field):
    pieces = read(chunk(**{field: "so "}), chunk(**{field: "then"}), chunk(("yes", -1.0), content="yes"))
    assert "".join(texts(pieces)) == "<think>so then</think>\nyes"
    assert [piece.from_text for piece in pieces] == [False, False, False, False, True]
    assert [piece.logprob for piece in pieces if piece.from_text] == [-1.0]


def test_log_probabilities_of_thinking_are_kept_where_a_server_gives_them():
    pieces = read(chunk(("so", -3.0), reasoning_content="so"), chunk(("yes", -1.0), content="yes"))
    assert [piece.logprob for piece in pieces if not math.isnan(piece.logprob)] == [-3.0, -1.0]


def test_tool_calls_come_whole_after_the_text():
    first = {"index": 0, "id": "a", "type": "function", "function": {"name": "look", "arguments": ""}}
    rest = [{"index": 0, "function": {"arguments": part}} for part in ('{"sure": ', "true}")]
    pieces = read(chunk(content="I look."), *(chunk(tool_calls=[call]) for call in (first, *rest)))
    assert texts(pieces)[0] == "I look."
    assert texts(pieces)[1] == '<tool_call>\n{"name": "look", "arguments": {"sure": true}}\n</tool_call>\n'


def test_a_server_that_counts_differently_does_not_exceed_the_limit_but_its_calls_come_through():
    call = {"index": 0, "id": "a", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    pieces = read(chunk(("a", -1.0), ("b", -1.0), ("c", -1.0), content="abc"), chunk(tool_calls=[call]), room=2)
    assert texts(pieces)[:2] == ["a", "b"]
    assert "look" in texts(pieces)[2]
    assert len(pieces) == 3


def test_a_table_gives_pieces_back():
    table = PieceTable(stop=("!",))
    numbers = [table.number(piece.text) for piece in (AnswerPiece("a"), AnswerPiece("b"), AnswerPiece("a!"))]
    assert table.pieces(numbers) == ("a", "b", "a!")
    assert table.decode(numbers) == "aba"
