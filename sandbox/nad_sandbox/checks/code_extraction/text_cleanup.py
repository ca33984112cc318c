"""Strip reasoning from an answer, and repair source that only its form keeps from being valid Python."""

from __future__ import annotations

import html
import re
import textwrap

from nad_sandbox.checks.code_extraction.program_facts import facts
from nad_sandbox.checks.guarded_parse import parse_program

__all__ = ["cleaned_source", "is_session", "session_statements", "visible_answer"]

_REASONING = r"(?:think|thinking|thought|thoughts|reasoning|analysis|reflection|scratchpad)"
_REASONED = re.compile(
    rf"\A\s*(?:<{_REASONING}>.*?</{_REASONING}>|\[THINK\].*?\[/THINK\]|◁think▷.*?◁/think▷)", re.DOTALL | re.IGNORECASE
)
_REASONED_UNOPENED = re.compile(rf"\A.*</{_REASONING}>(?![\"'\\])", re.DOTALL | re.IGNORECASE)
_FINAL_CHANNEL = re.compile(r"\A.*<\|channel\|>final<\|message\|>", re.DOTALL)
_SPECIAL_TOKEN = re.compile(r"<\|(?:im_end|im_start|endoftext|eot_id|end|return|end_of_text)\|>|</s>\s*\Z")
_INVISIBLE = re.compile("[\u200b\u200c\u200d\u2060\ufeff]")
_BLANKS = re.compile("[\u00a0\u2000-\u200a\u202f\u205f\u3000]")
_LEADING_BLANKS = re.compile("^[ \t\u00a0\u2000-\u200a\u202f\u205f\u3000]+", re.MULTILINE)
_ENTITY = re.compile(r"&(?:lt|gt|amp|quot|apos|nbsp|#39|#34|#x27|#x22|#60|#62);")
_ENTITY_NAMES = {"lt", "gt", "amp", "quot", "apos", "nbsp"}
_QUOTES = str.maketrans({"“": '"', "”": '"', "‘": "'", "’": "'"})
_PROMPT_LINE = re.compile(r"^(?P<indent>[ \t]*)(?:>>>|\.\.\.)(?: |$)")
_CELL = re.compile(r"^(?:In \[\d*\]: ?|[ \t]*\.\.\.: ?)")
_CELL_OUTPUT = re.compile(r"^Out\[\d*\]:")


def visible_answer(answer: str) -> str:
    """Return an answer without the reasoning that the model wrote first, with line feeds as line ends.

    Args:
        answer: The model's answer.
    """
    text = answer.replace("\r\n", "\n").replace("\r", "\n").lstrip("\ufeff")
    final = _FINAL_CHANNEL.sub("", text)
    if final == text:
        reasoned = _REASONED.match(text)
        final = text[reasoned.end() :] if reasoned else _REASONED_UNOPENED.sub("", text)
    return _SPECIAL_TOKEN.sub("", final)


def cleaned_source(code: str) -> str:
    """Return source with a form that Python can read.

    Common indentation and the prompts and output of an interactive session are removed. Invisible characters, blanks
    other than spaces, HTML entities and typographic quotes are replaced where the result parses and the source does
    not.

    Args:
        code: Source as it appears in the answer.
    """
    code = textwrap.dedent(code.strip("\n").rstrip()) + "\n"
    code = _without_prompts(code)
    if _ENTITY.search(code):
        code = _without_entities(code)
    if parse_program(code) is not None:
        return code
    return next((other for other in _repairs(code) if parse_program(other) is not None), code)


def is_session(code: str) -> bool:
    """Return whether source begins like an interactive session."""
    return code.lstrip().startswith(">>>") or _CELL.match(code.lstrip("\n")) is not None


def session_statements(text: str) -> str:
    """Return the statements of an interactive session, without its prompts, its output and any text around it."""
    lines = [line for line in text.split("\n") if _PROMPT_LINE.match(line)]
    return textwrap.dedent("\n".join(_PROMPT_LINE.sub(lambda found: found["indent"], line) for line in lines)) + "\n"


def _repairs(code: str) -> list[str]:
    """Return versions of the source with more and more of its characters replaced."""
    if code.isascii():
        return []
    seen = _INVISIBLE.sub("", code)
    leading = _LEADING_BLANKS.sub(lambda blanks: _BLANKS.sub(" ", blanks[0]), seen)
    spaced = _BLANKS.sub(" ", seen)
    tried = [seen, leading, spaced, spaced.translate(_QUOTES)]
    return [other for text in tried for other in (text, textwrap.dedent(text))]


def _without_entities(code: str) -> str:
    plain = html.unescape(code)
    known = facts(code)
    meant = known is None or not known.unbound.isdisjoint(_ENTITY_NAMES)
    return plain if meant and parse_program(plain) is not None else code


def _without_prompts(code: str) -> str:
    """Return the statements of an interactive session, without its prompts and its output."""
    lines = code.split("\n")
    if any(_CELL.match(line) for line in lines[:1]):
        lines = [">>> " + _CELL.sub("", line) if _CELL.match(line) else line for line in lines]
        lines = [line for line in lines if not _CELL_OUTPUT.match(line)]
    first = next((at for at, line in enumerate(lines) if line.startswith(">>>")), None)
    if first is None:
        return code
    before = "\n".join(lines[:first]).rstrip() + "\n"
    if before.strip():
        # a program followed by a session that shows its use
        known = facts(before)
        return before if known is not None and parse_program(code) is None else code
    return session_statements("\n".join(lines))
