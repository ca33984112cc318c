"""The programs that check a candidate inside the sandbox; their text is sent there, they are never imported here.

Two processes share the sandbox. The *judge* holds the expected values, the tests and the nonce that proves success.
The *candidate* process runs the model's code and nothing else: it answers requests to call its functions. Values cross
between them as plain data, so no code of the candidate ever runs where an assertion is evaluated: it cannot patch
asserts, answer every comparison with True, exit early, or print its way to success.

`source` gives the text of the judge with the candidate's runner and their codec inside; `observer_source` that of the
observer, which judges nothing: it tells what a program does with many inputs.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

__all__ = ["observer_source", "source"]


_TESTING = ("arranging.py", "comparing.py", "changing.py", "requesting.py", "collecting.py")
# what is more than assertions at the top level, or might be
_STYLED = re.compile(r"pytest|unittest|mock|def test|class Test|importlib|__import__")


def source(tests: str = "") -> str:
    """The judge's program, for a Python of version 3.8 or later with nothing but its standard library.

    Args:
        tests: what it will run; for assertions alone it is shorter, and starts sooner.
    """
    return _judge(styled=_STYLED.search(tests) is not None)


@cache
def _judge(*, styled: bool) -> str:
    names = ("codec.py", "runner.py", "asserting.py", "remote.py", "candidate.py", *(_TESTING if styled else ()))
    parts = map(_module, (*names, "running.py", "judge.py"))
    return "from __future__ import annotations\n" + "\n".join(parts) + "\nmain()\n"


@cache
def observer_source() -> str:
    """The program that observes what a candidate returns, prints and raises on many inputs, twice."""
    parts = ["from __future__ import annotations\n", f"CALLS = {_module('calls.py')!r}\n", _module("repeats.py")]
    return "".join(parts) + "\nmain()\n"


def _module(name: str) -> str:
    """A module's text without what only holds while the modules are apart."""
    text = resources.files("nad_sandbox.harness").joinpath(name).read_text(encoding="utf-8")
    text = re.sub(r"^from nad_sandbox\.harness\.\w+ import (\([^)]*\).*|.*)$", "", text, flags=re.MULTILINE)
    text = re.sub(r"^CALLS = globals.*$", "", text, flags=re.MULTILINE)
    return text.replace("from __future__ import annotations\n", "")
