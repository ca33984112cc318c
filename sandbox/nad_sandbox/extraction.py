"""Finding the program in a model's answer.

Rules, in order:

1. Fenced blocks (``` or ~~~). A block counts as Python when its label says so, or when it has no label and parses.
   Of several, those that parse are joined in order, unless a later one defines again what an earlier one defined: then
   the later one replaces it, since models first show a draft and then the corrected whole. A last fence that was never
   closed (the token limit cut it) counts up to the end.
2. No fence: the whole answer, if it parses.
3. Prose around bare code: the longest run of lines that parses and holds a statement worth running.
4. A function's body alone, where the prompt ended with its signature: signature and body together.
5. Otherwise the text as it is, so that the syntax check can say what is wrong with it.
"""

from __future__ import annotations

import ast
import re
import textwrap
from dataclasses import dataclass

__all__ = ["extract_code", "normalise_program"]

_FENCE = re.compile(r"^(?P<indent>[ \t]*)(?P<mark>`{3,}|~{3,})[ \t]*(?P<label>[\w+#.-]*)[^\n]*$", re.MULTILINE)
_PYTHON_LABELS = {"python", "py", "python3", "py3", "python2", "ipython", "pycon"}
_STATEMENTS = (
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.ClassDef,
    ast.Import,
    ast.ImportFrom,
    ast.Assign,
    ast.AugAssign,
    ast.AnnAssign,
    ast.For,
    ast.While,
    ast.With,
    ast.Try,
    ast.If,
    ast.Assert,
    ast.Return,
)


@dataclass(frozen=True)
class _Block:
    label: str
    code: str


def extract_code(answer: str, prompt: str = "") -> str:
    """The Python program of an answer.

    Args:
        answer: what the model wrote.
        prompt: what it was asked; its trailing signature completes an answer that is only a body.

    Returns:
        Source text without fences and prose; see the module for the rules. Never empty unless the answer is blank.
    """
    blocks = [block for block in _fenced_blocks(answer) if block.code.strip()]
    python = [b.code for b in blocks if b.label in _PYTHON_LABELS] or [b.code for b in blocks if not b.label]
    python = python or [b.code for b in blocks if _parses(b.code)]
    if python:
        code = _joined(python)
        return code if _parses(code) else _with_signature(code, prompt) or code
    if _parses(answer) and _is_program(answer):
        return answer.strip("\n")
    return _with_signature(answer, prompt) or _longest_program(answer) or answer.strip()


def normalise_program(code: str) -> str:
    """A text that is equal for programs which differ only in comments, formatting and docstrings.

    Args:
        code: Python source; source that does not parse is returned with its trailing spaces removed.
    """
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return "\n".join(line.rstrip() for line in code.strip().splitlines())
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Module)) and ast.get_docstring(
            node, clean=False
        ):
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def _fenced_blocks(answer: str) -> list[_Block]:
    blocks = []
    opening: re.Match[str] | None = None
    for fence in _FENCE.finditer(answer):
        if opening is None:
            opening = fence
        elif fence["mark"].startswith(opening["mark"]) and not fence["label"]:
            blocks.append(_block(opening, answer[opening.end() : fence.start()]))
            opening = None
    if opening is not None:
        blocks.append(_block(opening, answer[opening.end() :]))
    return blocks


def _block(opening: re.Match[str], code: str) -> _Block:
    return _Block(opening["label"].lower(), textwrap.dedent(code.lstrip("\n").rstrip() + "\n") if code.strip() else "")


def _joined(blocks: list[str]) -> str:
    """The blocks in order; a block whose definitions come again later is left out."""
    whole = [code for code in blocks if _parses(code)] or blocks[-1:]
    kept: list[str] = []
    later: set[str] = set()
    for code in reversed(whole):
        names = _definitions(code)
        if names and names <= later:
            continue
        later |= names
        kept.append(code)
    return "\n".join(code.rstrip("\n") for code in reversed(kept)) + "\n"


def _definitions(code: str) -> set[str]:
    try:
        body = ast.parse(code).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    return {node.name for node in body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))}


def _parses(code: str) -> bool:
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return not _returns_outside_a_function(tree)


def _returns_outside_a_function(tree: ast.AST) -> bool:
    """Whether this is a function's body alone, which parses but does not compile."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.Return, ast.Yield, ast.YieldFrom)):
            return True
        inner = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        if not inner and _returns_outside_a_function(node):
            return True
    return False


def _is_program(code: str) -> bool:
    """Whether source that parses is more than a word or a sentence that happens to be an expression."""
    body = ast.parse(code).body
    return any(isinstance(node, _STATEMENTS) for node in body) or any(
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) for node in body
    )


def _longest_program(answer: str) -> str:
    """The longest run of whole lines that parses and is a program; empty when there is none."""
    lines = answer.splitlines()
    for size in range(len(lines), 0, -1):
        for start in range(len(lines) - size + 1):
            if not lines[start].strip() or lines[start][0] in " \t":
                continue
            code = "\n".join(lines[start : start + size])
            if _parses(code) and _is_program(code):
                return code.rstrip() + "\n"
    return ""


def _with_signature(body: str, prompt: str) -> str:
    """The prompt's last function and the answer as the rest of its body; empty when that is no program."""
    signatures = list(re.finditer(r"^(?:async )?def \w+\(", prompt, re.MULTILINE))
    if not signatures:
        return ""
    head = prompt[signatures[-1].start() :]
    before = prompt[: signatures[-1].start()]
    if not _parses(before):  # prose; the imports in it are still wanted
        before = "\n".join(re.findall(r"^(?:import|from) .+$", before, re.MULTILINE))
    indented = body if re.match(r"[ \t]", body.lstrip("\n")) else textwrap.indent(body, "    ")
    for rest in (indented, textwrap.indent(textwrap.dedent(body), "    ")):
        code = f"{before}\n{head.rstrip()}\n{rest.rstrip()}\n".lstrip("\n")
        if _parses(code):
            return code
    return ""
