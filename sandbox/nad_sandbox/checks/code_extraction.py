"""Finding the program in a model's answer.

What a reasoning model thought before ``</think>`` does not count. Then, in order:

1. Fenced blocks (``` or ~~~). A block counts as Python when its label says so, or when it has no label and parses.
   Of several, those that parse are joined in order, unless a later one defines again what an earlier one defined: then
   the later one replaces it, since models first show a draft and then the corrected whole. A last fence that was never
   closed (the token limit cut it) counts up to the end.
2. No fence: the whole answer, if it parses.
3. Prose around bare code: the longest run of lines, indented or not, that parses and holds a statement worth running.
4. A function's body alone, where the prompt ended with its signature: signature and body together.
5. Otherwise the text as it is, so that the syntax check can say what is wrong with it.

Imports and complete functions in the prompt's code are put before a program that lacks them: a model that continues a
file takes them for granted.
"""

from __future__ import annotations

import ast
import builtins
import re
import textwrap
from dataclasses import dataclass

__all__ = ["LONGEST_PROGRAM", "extract_code"]

LONGEST_PROGRAM = 1 << 18
"""Characters beyond which nothing is extracted or parsed: that would keep this process busy, outside every limit."""

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


_THOUGHT = re.compile(r"\A.*</think>", re.DOTALL)
_CODE_START = re.compile(
    r"\s*(?:@|#|(?:def|class|import|from|for|while|if|try|with|async|assert)\b|[A-Za-z_][\w., ]*[=(\[:+*/-])"
)
# enough for any answer that is code and prose; what is nothing but broken lines is given up
_MOST_ATTEMPTS = 400


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
    answer = _THOUGHT.sub("", answer)
    code = _program(answer, prompt)
    return _preamble(code, prompt) + code


def _program(answer: str, prompt: str) -> str:
    blocks = [block for block in _fenced_blocks(answer) if block.code.strip()]
    python = [b.code for b in blocks if b.label in _PYTHON_LABELS] or [b.code for b in blocks if not b.label]
    python = python or [b.code for b in blocks if _parses(b.code)]
    if python:
        code = _joined(python)
        return code if _parses(code) else _with_signature(code, prompt) or code
    if _parses(answer) and _is_program(answer):
        return answer.strip("\n")
    return _with_signature(answer, prompt) or _longest_program(answer) or answer.strip()


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
    lines = answer.expandtabs(4).splitlines()
    found: list[str] = []
    attempts = _MOST_ATTEMPTS
    start = 0
    while start < len(lines) and attempts:
        end = len(lines) if _CODE_START.match(lines[start]) else start
        indent = len(lines[start]) - len(lines[start].lstrip())
        code, wrong = "", None
        while end > start and attempts:
            attempts -= 1
            code = "\n".join(line[indent:] if not line[:indent].strip() else line for line in lines[start:end])
            wrong = _first_wrong_line(code)
            if wrong is None:
                break
            end = start + min(wrong - 1, end - start - 1)
        if end > start and wrong is None and _is_program(code):
            found.append(code.rstrip() + "\n")
        start = max(end, start + 1)
    return max(found, key=lambda code: len(code.splitlines()), default="")


def _first_wrong_line(code: str) -> int | None:
    """The line, from 1, at which source stops being Python; None when it parses."""
    try:
        tree = ast.parse(code)
    except SyntaxError as error:
        return error.lineno or 1
    except (ValueError, RecursionError, MemoryError):
        return 1
    return 1 if _returns_outside_a_function(tree) else None


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


def _preamble(code: str, prompt: str) -> str:
    """Imports of the prompt that a program uses and lacks, and the prompt's own functions; empty when it needs none."""
    missing, defined = _free_names(code), _definitions(code)
    if not _parses(code):
        return ""
    wanted: list[ast.stmt] = []
    fenced = bool(_fenced_blocks(prompt))
    for node in reversed(_prompt_code(prompt)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {(alias.asname or alias.name).split(".")[0] for alias in node.names}
            needed = bool(names & missing) or "*" in names
        else:
            names = _definitions(ast.unparse(node))
            # a prompt that is code is the file that the model continues, and its tests may use all of it
            needed = not names & defined and (not fenced or bool(names & missing))
        if needed:
            wanted.insert(0, node)
            missing |= _free_names(ast.unparse(node))
    return "".join(ast.unparse(node) + "\n" for node in wanted)


def _prompt_code(prompt: str) -> list[ast.stmt]:
    """Imports and complete definitions in a prompt, which may be prose around them."""
    sources = [block.code for block in _fenced_blocks(prompt)] or [prompt]
    body: list[ast.stmt] = []
    for source in sources:
        try:
            body += ast.parse(source).body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            imports = "\n".join(re.findall(r"^(?:import|from) .+$", source, re.MULTILINE))
            body += ast.parse(imports).body if _parses(imports) else []
    return [node for node in body if isinstance(node, ast.Import | ast.ImportFrom) or not _is_stub(node)]


def _is_stub(node: ast.stmt) -> bool:
    """Whether this is no definition, or one whose body is left to the model."""
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return True
    rest = [s for s in node.body if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))]
    return all(isinstance(statement, ast.Pass) for statement in rest)


def _free_names(code: str) -> set[str]:
    """Names that a program reads and never binds."""
    try:
        nodes = list(ast.walk(ast.parse(code)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    read = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    bound = {node.id for node in nodes if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)}
    for node in nodes:
        if isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, ast.alias):
            bound.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.ExceptHandler):
            bound.add(node.name or "")
    return read - bound - set(dir(builtins))
