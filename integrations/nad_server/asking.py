"""The kinds of reply, their grammars and their reading, which the LangChain integration has as well.

The only file here that imports `langchain_nad`.
"""

from __future__ import annotations

from langchain_nad.answers import evidence
from langchain_nad.asking import ask, written_for
from langchain_nad.readers import AnswerReader, FamilyReader
from langchain_nad.replies import Reply

__all__ = ["AnswerReader", "FamilyReader", "Reply", "ask", "evidence", "written_for"]
