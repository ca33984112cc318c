"""The Python of a page, run as a reader would: block after block, in one namespace.

Where a real model adds nothing but time, a comment in the source of the page scripts its answers for the blocks that
follow: `<!-- answers: ["Bonjour", {"candidates": ["4", "five"], "ranking": [1, 0]}] -->`. The code stays as it is
shown; only the models that it names are replaced, by `nad_agents.testing.ScriptedDecoder`. Lines that start with `# > `
after a statement are what it has to print, and a comment `<!-- error: NAME -->` names the exception that ends the next
block.
"""

from __future__ import annotations

import ast
import asyncio
import builtins
import contextlib
import io
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nad_agents.decoder
from nad_agents.chat import local_model, shared_decoders
from nad_agents.testing import ScriptedAnswer, ScriptedDecoder

_PART = re.compile(
    r"^ *<!-- (?P<directive>answers|error): (?P<value>.*?) -->$|^(?P<indent> *)```python\n(?P<code>.*?)^ *```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass
class Script:
    """The answers that scripted decoders give, in turn; the last one holds for all further prompts."""

    answers: list[Any] = field(default_factory=list)

    def __call__(self, request: Any) -> Any:
        assert self.answers, "a block asks a scripted model, and no comment of the page says what it answers"
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return ScriptedAnswer(**answer) if isinstance(answer, dict) else answer

    def decoder(self, model: Any = "scripted", *, sampling: Any = None, config: Any = None, **options: Any) -> Any:
        """Make what takes the place of a `NeuronAgreementDecoder`."""
        known = {name: options[name] for name in ("verifier", "verification") if name in options}
        name = getattr(model, "name", None) or str(model).rsplit("/", 1)[-1]
        return ScriptedDecoder(self, sampling=sampling, config=config, name=name, context_length=32_768, **known)


def python_blocks(text: str) -> list[str]:
    """Return the Python blocks of a page."""
    return [_dedent(match) for match in _PART.finditer(text) if match["code"] is not None]


def run_page(
    path: Path, monkeypatch: Any, names: dict[str, Any] | None = None, change: Callable[[str], str] = str
) -> dict[str, Any]:
    """Run the blocks of a page, changed by a function or not, and return the names that they leave."""
    text = path.read_text(encoding="utf-8")
    names = {"__name__": "page"} if names is None else names
    script, error = Script(), ""
    for part in _PART.finditer(text):
        if part["directive"] == "answers":
            _replace_models(script, monkeypatch)
            script.answers = json.loads(part["value"])
        elif part["directive"] == "error":
            error = part["value"]
        else:
            # so that a traceback names the line of the page
            line = text[: part.start("code")].count("\n")
            _run_block("\n" * line + change(_dedent(part)), path, names, error)
            error = ""
    return names


def _dedent(part: re.Match[str]) -> str:
    return re.sub(rf"^{part['indent']}", "", part["code"], flags=re.MULTILINE)


def _replace_models(script: Script, monkeypatch: Any) -> None:
    decoders: dict[str, Any] = {}

    def shared(model: str, *_: Any, **__: Any) -> Any:
        return decoders.setdefault(model, script.decoder(model))

    monkeypatch.setattr(local_model, "shared_decoder", shared)
    monkeypatch.setattr(shared_decoders, "shared_decoder", shared)
    monkeypatch.setattr(nad_agents.decoder, "NeuronAgreementDecoder", script.decoder)


def _run_block(code: str, path: Path, names: dict[str, Any], error: str) -> None:
    printed = io.StringIO()
    # a top-level await runs in a loop of its own, as in a notebook
    compiled = compile(code, str(path), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    with contextlib.redirect_stdout(printed):
        try:
            result = builtins.eval(compiled, names)
            if asyncio.iscoroutine(result):
                asyncio.run(result)
        except Exception as raised:
            if type(raised).__name__ != error:
                raise
        else:
            assert not error, f"the block should raise {error}"
    expected = re.findall(r"^ *# ?> ?(.*)$", code, re.MULTILINE)
    if expected:
        assert [line.rstrip() for line in printed.getvalue().splitlines()] == [line.rstrip() for line in expected]
