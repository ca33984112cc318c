"""The kinds of reply, their grammars and their reading, which the LangChain integration has as well.

The only file here that imports `langchain_nad`.
"""

from __future__ import annotations

from langchain_nad.answers import evidence
from langchain_nad.asking import ask, written_for
from langchain_nad.replies import Reply
from langchain_nad.tool_calls import ParsedAnswer, certain_text, parse_answer

__all__ = ["ParsedAnswer", "Reply", "ask", "certain_text", "evidence", "parse_answer", "written_for"]
