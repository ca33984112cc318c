"""Programs with their tests, in text files: right ones, and ones that only pretend to be.

A file holds entries like this one::

    ### name
    the program
    --- tests
    its tests
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Entry:
    """A program and its tests.

    Attributes:
        kind: the file's name: what the entry is about.
        name: what it shows.
        program: its source.
        tests: their source.
    """

    kind: str
    name: str
    program: str
    tests: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.name}"


def read_corpus(folder: str) -> list[Entry]:
    """All entries in the files of a folder beside this one."""
    entries = []
    for file in sorted((Path(__file__).parent / folder).glob("*.txt")):
        for text in ("\n" + file.read_text(encoding="utf-8")).split("\n### ")[1:]:
            name, _, rest = text.partition("\n")
            program, _, tests = rest.partition("\n--- tests\n")
            entries.append(Entry(file.stem, name.strip(), program + "\n", tests.strip("\n") + "\n"))
    return entries
