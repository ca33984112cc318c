"""Tokenizers with response templates, and a model that writes what a test wants."""

from transformers import LogitsProcessor

from nad_agents.testing import byte_tokenizer

TAGS = {
    "defaults": {"role": "assistant"},
    "start_anchor": "[assistant]",
    "fields": {
        "reasoning_content": {"open": "<think>", "close": "</think>", "content": "text"},
        "tool_calls": {
            "open_pattern": r"\s*<call:(?P<name>\w+)>",
            "close": "</call>",
            "repeats": True,
            "content": "xml-inline",
            "content_args": {"tag_pattern": r"<(?P<key>\w+)=(?P<value>[^>]*)>"},
            "transform": {"type": "function", "function": {"name": "{name}", "arguments": "{content}"}},
        },
        "content": {"content": "text"},
    },
}
"""A format that none of the families has, with arguments as text."""

JSON = {
    "start_anchor": "[assistant]",
    "fields": {
        "thinking": {"open": "<|think|>", "close": "<|/think|>"},
        "tool_calls": {"open": "<|call|>", "close": "<|/call|>", "repeats": True, "content": "json"},
        "content": {},
    },
}
"""Marks that are special tokens."""


def templated(template, *special):
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"extra_special_tokens": list(special)} if special else {})
    tokenizer.chat_template = "{% if tools %}{{ tools | tojson }}{% endif %}" + tokenizer.chat_template
    tokenizer.response_template = template
    return tokenizer


class Writes(LogitsProcessor):
    """Makes every candidate write the same tokens."""

    def __init__(self, ids):
        self._ids, self._start = [*ids, 0], None

    def __call__(self, input_ids, scores):
        self._start = input_ids.shape[1] if self._start is None else self._start
        scores[:] = -float("inf")
        scores[:, self._ids[min(input_ids.shape[1] - self._start, len(self._ids) - 1)]] = 0
        return scores
