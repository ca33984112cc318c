"""Find the program in a model's answer.

The reasoning that a model writes first is dropped. Then these rules apply in order:

1. If the whole answer is a program, it is the program.
2. Fenced blocks are used next. A block counts as Python when its label says so, or when it has no label and is code.
   Several blocks that parse are joined in order. A block that defines again what an earlier one defined replaces the
   earlier one, since models first show a draft and then the corrected whole. A last fence that was never closed
   (the token limit truncated it) counts up to its last complete statement.
3. Without fences, the runs of lines between prose that are programs are used.
4. A function's body alone, bare or in a fence, completes the signature with which the prompt ended.
5. Otherwise the text is returned as it is, so that the syntax check can say what is wrong with it.

Definitions and imports that the program takes for granted are put in front of it; see `missing_names`.
"""

from __future__ import annotations

import ast
import re
import sys

from nad_sandbox.checks.code_extraction.bare_code import code_runs, longest_beginning, without_remarks
from nad_sandbox.checks.code_extraction.function_bodies import completed, is_body_of, methods_in_class
from nad_sandbox.checks.code_extraction.markdown_blocks import Block, fenced_blocks, without_fences
from nad_sandbox.checks.code_extraction.missing_names import with_missing_names
from nad_sandbox.checks.code_extraction.program_facts import bound_by_import, facts
from nad_sandbox.checks.code_extraction.text_cleanup import (
    cleaned_source,
    is_session,
    session_statements,
    visible_answer,
)
from nad_sandbox.checks.guarded_parse import LONGEST_PROGRAM, bounded_parsing, descendants, parse_program

__all__ = ["extract_code", "extract_programs"]

_MOST_PROGRAMS = 3
_MOST_PARSED = 4 * LONGEST_PROGRAM
_CODE_LINE = re.compile(r"^[ \t]*(?:(?:async )?def|class|import|from|return|for|while|if)\b", re.MULTILINE)
_OUTER_DEFINITION = re.compile(r"^(?:(?:async )?def|class)[ \t]+\w", re.MULTILINE)
_FUTURE = re.compile(r"^from __future__ import [^\n(]+\n?", re.MULTILINE)
_TESTING_NAME = re.compile(r"(?i:tests?|test_\w*|run_tests?|main|demo\w*|examples?|example_\w*|usage)\Z|Test\w*\Z")
_SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_DEFINING_SPAN = re.compile(r"^def |\blambda\b")


def extract_code(answer: str, prompt: str = "") -> str:
    """Return the Python program of an answer: the first of `extract_programs`.

    Args:
        answer: The model's answer.
        prompt: The prompt; its trailing signature completes an answer that is only a body.

    Returns:
        Source text without fences and prose. It is never empty unless the answer is blank.
    """
    return extract_programs(answer, prompt)[0]


def extract_programs(answer: str, prompt: str = "") -> tuple[str, ...]:
    """Return at most three programs that an answer may stand for, the likeliest first.

    There are several when a block next to the defining one may or may not be part of the program: it calls what the
    other block defines, tests it, or imports it as if from a file. An answer fails only when all of its programs
    fail.

    Args:
        answer: The model's answer; one of more than `LONGEST_PROGRAM` characters is returned unchanged.
        prompt: The prompt; its trailing signature completes an answer that is only a body.
    """
    if len(answer) > LONGEST_PROGRAM:
        return (answer,)
    text = visible_answer(answer)
    prompt = visible_answer(prompt) if len(prompt) <= LONGEST_PROGRAM else ""
    try:
        with bounded_parsing(_MOST_PARSED):
            found = [with_missing_names(_in_class(code, prompt), prompt) for code in _choices(text, prompt)]
    finally:
        facts.cache_clear()  # the syntax trees of a long answer take much memory
    return tuple(dict.fromkeys(found))[:_MOST_PROGRAMS]


def _choices(text: str, prompt: str) -> list[str]:
    cleaned = cleaned_source(text)
    whole = facts(cleaned)
    if whole is not None and whole.works and not is_body_of(cleaned, prompt):
        return [without_remarks(cleaned)]
    blocks = [
        Block("session" if is_session(block.code) else block.language, cleaned_source(block.code), block.closed)
        for block in fenced_blocks(text, lambda before: _is_code(before, prompt))
        if block.code.strip()
    ]
    python = _python_blocks(blocks)
    if python:
        return _of_blocks(python, prompt)
    return _of_bare_text(text if not blocks else without_fences(text), prompt) or [
        blocks[-1].code if blocks else text.strip()
    ]


def _is_code(before: str, prompt: str) -> bool:
    """Return whether the text in front of a fence is code, so that the fence closes a block."""
    known = facts(cleaned_source(before))
    if known is not None:
        return known.works
    return bool(before.strip()) and completed(before, prompt) is not None


def _python_blocks(blocks: list[Block]) -> list[Block]:
    """Return the Python blocks: those labeled so, else those that define something, else those that parse."""
    labelled = [block for block in blocks if block.language in ("python", "session")]
    by_hand = [block for block in blocks if not block.language and (_defines(block.code) or _is_only_code(block.code))]
    if labelled:
        return [block for block in blocks if block in labelled or (block in by_hand and _defines(block.code))]
    bare = [block for block in blocks if not block.language]
    if by_hand or any(_CODE_LINE.search(block.code) for block in bare):
        return by_hand or bare
    working = [block for block in blocks if (known := facts(block.code)) is not None and known.works]
    if len(working) == len(blocks) or any(_defines(block.code) for block in working):
        return working
    return working if bare else []


def _is_only_code(code: str) -> bool:
    known = facts(code)
    return known.works if known is not None else parse_program(code) is not None


def _defines(code: str) -> bool:
    known = facts(code)
    return bool(known.definitions) if known is not None else bool(_OUTER_DEFINITION.search(code))


def _of_blocks(blocks: list[Block], prompt: str) -> list[str]:
    """Return the programs that blocks may stand for: all that count, joined, then those that define something."""
    codes = [block.code for block in blocks]
    last = blocks[-1]
    raw: list[str] = []
    if not last.closed and facts(last.code) is None:
        begun = longest_beginning(last.code)
        if begun != last.code and _defines(begun):
            # it may have been written for a newer version of Python
            codes[-1], raw = begun, [last.code]
    whole = [code for code in codes if facts(code) is not None]
    if not any(map(_defines, whole)):
        newer = [code for code in codes if facts(code) is None and _defines(code)]
        if newer:
            return [newer[-1], *([_joined([newer[-1], *whole])] if whole else [])]
    bodies = [code for code in codes if facts(code) is None or (len(codes) == 1 and is_body_of(code, prompt))]
    if bodies and not any(map(_defines, whole)):
        body = completed(bodies[-1], prompt) or completed(bodies[-1], prompt, cut=True)
        if body is not None:
            return [body, *raw]
    if not whole:
        return [codes[-1], *raw]
    kept = _latest(whole)
    defining = [code for code in kept if not _is_use(code, kept)]
    together = [
        code for code in kept if not _imports_from(code, [other for other in defining if other != code])
    ] or kept
    if defining:  # a session only shows what the program does
        sessions = {block.code for block in blocks if block.language == "session"}
        together = [code for code in together if code in defining or code not in sessions]
    alone = [_joined(defining)] if defining else []
    single = defining if len(defining) > 1 else []
    return [_joined(together), *alone, *single, *raw]


def _latest(codes: list[str]) -> list[str]:
    """Return the blocks in order, without mere signatures and without blocks whose definitions are repeated later."""
    kept: list[str] = []
    later: set[str] = set()
    defined = frozenset().union(*(known.definitions for code in codes if (known := facts(code)) is not None))
    for code in reversed(codes):
        known = facts(code)
        names = known.definitions if known is not None else frozenset()
        if names and names <= later:
            continue
        if known is not None and not names and known.stubs and known.stubs <= defined:
            continue
        later |= names
        kept.append(code)
    return kept[::-1]


def _is_use(code: str, codes: list[str]) -> bool:
    """Return whether a block only uses or tests what other blocks define."""
    known = facts(code)
    if known is None:
        return False
    own = {name for name in known.definitions if not _TESTING_NAME.match(name)}
    others = [other for other in codes if other != code]
    return bool(others) and (not own or _imports_from(code, others)) and any(map(_defines, others))


def _imports_from(code: str, others: list[str]) -> bool:
    """Return whether a block imports what other blocks define, as if they were a file with an unknown name."""
    known = facts(code)
    defined: set[str] = set()
    for other in others:
        found = facts(other)
        defined |= found.definitions if found is not None else set()
    return known is not None and any(
        isinstance(node, ast.ImportFrom)
        and (node.module or "").split(".")[0] not in sys.stdlib_module_names
        and (bound_by_import(node) <= defined or bound_by_import(node) == {"*"})
        for node in descendants(known.tree)
    )


def _joined(codes: list[str]) -> str:
    """Join several programs, with their `__future__` imports at the beginning, where Python demands them."""
    future = [found[0].rstrip("\n") for code in codes[1:] for found in _FUTURE.finditer(code)]
    rest = [codes[0], *(_FUTURE.sub("", code) for code in codes[1:])]
    future = [line for line in dict.fromkeys(future) if line not in codes[0]]
    return "\n".join([*future, *(code.rstrip("\n") for code in rest)]) + "\n"


def _of_bare_text(text: str, prompt: str) -> list[str]:
    """Return the programs that text without fences may stand for; none when it has no code."""
    body = completed(text, prompt)
    if body is not None:
        return [body]
    runs = code_runs(text)
    defining = _latest([run for run in runs if _defines(run)])
    if defining:
        needed = [run for run in defining if not _is_use(run, defining)]
        return [_joined(needed or defining), *needed, _joined(_latest(runs))]
    body = completed(text, prompt, cut=True)
    if body is not None:
        return [body]
    if runs:
        return [max(runs, key=lambda run: len(run.split("\n")))]
    session = session_statements(text)
    spans = [f"{span}\n" for span in _SPAN.findall(text) if _DEFINING_SPAN.search(span)]
    return [code for code in (session, *spans[::-1]) if (known := facts(code)) is not None and known.works][:1]


def _in_class(code: str, prompt: str) -> str:
    """Return the program with its methods inside the prompt's class, if it consists of methods alone."""
    known = facts(code)
    if known is None or not known.definitions:
        return code
    return methods_in_class(code, prompt) or code
