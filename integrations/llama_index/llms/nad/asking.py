"""Parameters, kinds of reply, their grammars and their reading, which the LangChain integration has as well.

The only file here that imports `langchain_nad`.
"""

from __future__ import annotations

from langchain_nad.answers import evidence
from langchain_nad.asking import ask
from langchain_nad.chat_fields import ChatFields
from langchain_nad.fields import Settings
from langchain_nad.readers import AnswerReader, FamilyReader
from langchain_nad.runs import Run, start_run
from langchain_nad.tool_calls import ParsedAnswer

__all__ = [
    "AnswerReader",
    "ChatFields",
    "FamilyReader",
    "ParsedAnswer",
    "Run",
    "Settings",
    "ask",
    "evidence",
    "start_run",
]
