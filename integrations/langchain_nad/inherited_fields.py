"""Describe the fields that the models inherit from langchain-core, which documents them only in its source code."""

from __future__ import annotations

__all__ = ["CHAT_FIELDS", "LANGUAGE_MODEL_FIELDS"]

LANGUAGE_MODEL_FIELDS = {
    "name": "Name of the model in traces.",
    "cache": "Whether answers are cached: a cache, True for LangChain's global one, False for none; None caches where "
    "a global cache is set.",
    "verbose": "Whether the answer is printed.",
    "callbacks": "Callbacks that are told of every call.",
    "tags": "Tags of every call in traces.",
    "metadata": "Metadata of every call in traces.",
    "custom_get_token_ids": "Encoder that counts tokens; the model's own tokenizer is used without it.",
}

CHAT_FIELDS = {
    "rate_limiter": "Limits the number of calls per second.",
    "disable_streaming": 'Whether `stream` answers in one piece; "tool_calling" does so for calls with tools.',
    "output_version": 'Form of a message\'s content: "v0" for text, "v1" for standard content blocks.',
    "profile": "What the model can do: its context, modalities, tools.",
}
