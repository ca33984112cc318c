"""Complete answers that continue the prompt: the body of its last function, or the methods of its last class."""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

from nad_sandbox.checks.code_extraction.bare_code import longest_beginning
from nad_sandbox.checks.code_extraction.markdown_blocks import fenced_blocks
from nad_sandbox.checks.code_extraction.program_facts import FUNCTIONS, facts, is_stub
from nad_sandbox.checks.guarded_parse import parse_program, unparse

__all__ = ["completed", "is_body_of", "methods_in_class"]

_SIGNATURE = re.compile(r"^(?P<indent>[ \t]*)(?:async[ \t]+)?def[ \t]+(?P<name>\w+)[ \t]*\(", re.MULTILINE)
_CLASS = re.compile(r"^class[ \t]+(?P<name>\w+)[^\n]*", re.MULTILINE)
_DECORATORS = re.compile(r"(?:^@[^\n]*\n)+\Z", re.MULTILINE)
_IMPORT = re.compile(r"^(?:import|from)[ \t][^\n]+$", re.MULTILINE)
_PLACEHOLDER = re.compile(r"\s*(?:pass|\.\.\.|raise NotImplementedError\b.*|#.*)?")
_AT_THE_TOP = re.compile(r"^(?:def|class|async def|if __name__|@)\b", re.MULTILINE)
_MOST_HEAD_LINES = 80


@dataclass(frozen=True)
class _OpenDefinition:
    """The function or class that a prompt leaves open at its end.

    Attributes:
        before: Code in front of the definition.
        head: Its signature, its docstring and the beginning of its body.
        indents: Widths by which the rest of the body may be indented, likeliest first.
    """

    before: str
    head: str
    indents: tuple[int, ...]


def completed(body: str, prompt: str, *, cut: bool = False) -> str | None:
    """Complete the prompt's last function or class with an answer; return None when the result is not a program.

    The body may be indented as in the prompt, not at all, by any other width, or everywhere but in its first line.

    Args:
        body: The answer, taken as the rest of the body.
        prompt: The prompt that the model answered.
        cut: Drop what follows the function and is not valid Python, such as prose or a truncated line.
    """
    opened = _open_definition(prompt)
    if opened is None or not body.strip():
        return None
    for rest in _indented(body.strip("\n"), opened.indents):
        code = "\n".join(part for part in (opened.before, opened.head, rest.rstrip()) if part) + "\n"
        if cut:
            code = longest_beginning(code)
        if _is_filled(code, opened):
            return code
    return None


def is_body_of(code: str, prompt: str) -> bool:
    """Return whether source is a function's body, not a script: it reads parameters of the prompt's last function.

    Args:
        code: The source.
        prompt: The prompt that the source answers.
    """
    known, opened = facts(code), _open_definition(prompt)
    if known is None or opened is None or known.definitions:
        return False
    head = parse_program(f"{opened.head}\n{' ' * opened.indents[0]}pass\n")
    functions = [node for node in ast.walk(head) if isinstance(node, FUNCTIONS)] if head is not None else []
    arguments = ast.walk(functions[-1].args) if functions else ()
    parameters = {argument.arg for argument in arguments if isinstance(argument, ast.arg)}
    return not known.unbound.isdisjoint(parameters)


def methods_in_class(code: str, prompt: str) -> str | None:
    """Return the prompt's last class with an answer's functions as its methods; None when they are not methods.

    Functions count as methods when the first parameter of each is `self` or `cls`.

    Args:
        code: Functions at the top level.
        prompt: The prompt that the model answered, with the class in it.
    """
    known = facts(code)
    functions = [node for node in known.tree.body if isinstance(node, FUNCTIONS)] if known is not None else []
    if known is None or not functions or not all(_is_method(node) for node in functions):
        return None
    imports = [node for node in known.tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    if len(imports) + len(functions) != len(known.tree.body):
        return None
    for source in _sources(prompt):
        names = [match["name"] for match in _CLASS.finditer(source)]
        if not names or names[-1] in known.definitions:
            continue
        node = _class_of(source, names[-1])
        if node is None:
            continue
        kept = [s for s in node.body if not isinstance(s, FUNCTIONS) or not (is_stub(s) or s.name in known.definitions)]
        whole = ast.ClassDef(node.name, node.bases, node.keywords, [*kept, *functions], node.decorator_list)
        whole.__dict__.setdefault("type_params", [])  # from Python 3.12 on
        text = unparse(ast.Module([*imports, ast.fix_missing_locations(whole)], []))
        if text is not None and facts(text + "\n") is not None:
            return text + "\n"
    return None


def _is_method(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    arguments = [*node.args.posonlyargs, *node.args.args]
    return bool(arguments) and arguments[0].arg in ("self", "cls")


def _class_of(source: str, name: str) -> ast.ClassDef | None:
    """Return the class of a name from code that may end before the class has a body."""
    lines = source.rstrip().split("\n")
    for end in range(len(lines), max(0, len(lines) - _MOST_HEAD_LINES), -1):
        for indent in (8, 4):
            tree = parse_program("\n".join([*lines[:end], " " * indent + "pass"]) + "\n") or parse_program(
                "\n".join(lines[:end]) + "\n"
            )
            if tree is not None:
                found = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name]
                return found[-1] if found else None
    return None


def _sources(prompt: str) -> list[str]:
    """Return the code blocks of a prompt, the last one first; the prompt itself where it has no fenced blocks."""
    return [block.code for block in reversed(fenced_blocks(prompt))] or [prompt]


def _open_definition(prompt: str) -> _OpenDefinition | None:
    for source in _sources(prompt):
        signatures = list(_SIGNATURE.finditer(source))
        outer = [match for match in signatures if not match["indent"]]
        classes = list(_CLASS.finditer(source))
        start = max([match.start() for match in (*outer[-1:], *classes[-1:])], default=None)
        if start is None:
            continue
        inside = [match for match in signatures if match.start() > start and match["indent"]]
        is_class = bool(classes) and start == classes[-1].start()
        decorators = _DECORATORS.search(source[:start])
        start = decorators.start() if decorators else start
        deeper = len(inside[-1]["indent"].expandtabs(4)) + 4 if is_class and inside else 4
        for indents in dict.fromkeys(((deeper, 4) if is_class else (4,), (4,))):
            head = _head(source[start:], indents[0])
            if head is not None:
                own = _own_indent(head) if not is_class else None
                return _OpenDefinition(_before(source[:start]), head, (own,) if own else indents)
    return None


def _own_indent(head: str) -> int | None:
    """Return the indentation of the body that the prompt begins; None where it begins no body."""
    tree = parse_program(head)
    node = tree.body[-1] if tree is not None and tree.body else None
    return node.body[0].col_offset if isinstance(node, FUNCTIONS) and node.body else None


def _before(text: str) -> str:
    """Return the code in the text before a signature; from prose, only its imports."""
    text = text.strip("\n").rstrip()
    return text if facts(text) is not None else "\n".join(_IMPORT.findall(text))


def _head(text: str, indent: int) -> str | None:
    """Return the beginning of a definition, without placeholders for its body and without what follows it."""
    lines = text.rstrip().split("\n")
    for end in range(min(len(lines), _MOST_HEAD_LINES), 0, -1):
        if parse_program("\n".join([*lines[:end], " " * indent + "pass"]) + "\n") is not None:
            kept = lines[:end]
            while len(kept) > 1 and _PLACEHOLDER.fullmatch(kept[-1]):
                kept.pop()
            return "\n".join(kept)
    return None


def _indented(body: str, indents: tuple[int, ...]) -> Iterator[str]:
    """Yield the body with every indentation that the model may have meant."""
    first, *others = body.split("\n")
    rest = "\n".join(others)
    even = textwrap.dedent(body)
    for indent in indents:
        space = " " * indent
        if first[:1].isspace():
            yield body
        begun = f"{space}{first.lstrip()}\n{rest}"
        followed = _AT_THE_TOP.search(rest) is not None and not first.rstrip().endswith(":")
        if followed:
            yield begun
        yield textwrap.indent(even, space)
        yield begun
        deeper = indent + 4 if first.rstrip().endswith(":") else indent
        yield f"{space}{first.lstrip()}\n{textwrap.indent(textwrap.dedent(rest), ' ' * deeper)}"


def _is_filled(code: str, opened: _OpenDefinition) -> bool:
    """Return whether the definition that the prompt left open has a body in the program."""
    known = facts(code)
    if known is None:
        return False
    first = len(opened.before.split("\n")) + 1 if opened.before else 1
    last_of_head = first + len(opened.head.split("\n")) - 1
    for node in known.tree.body:
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)) and node.lineno <= last_of_head < (node.end_lineno or 0):
            return not is_stub(node)
    return False
