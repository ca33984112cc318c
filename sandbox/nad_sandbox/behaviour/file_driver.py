"""Files that functions with a path among their parameters find in their working folder."""

from __future__ import annotations

__all__ = ["FILES", "file_driver_source"]

FILES = {
    "words.txt": "the cat\nthe hat\n\nEnd of it\n",
    "numbers.txt": "3\n1\n2\n",
    "table.csv": "name,age\nAda,36\nBob,41\n",
    "data.json": '{"a": 1, "b": [2, 3]}',
    "empty.txt": "",
}
"""Contents of the files by name."""

_SOURCE = """
for _nad_name, _nad_text in {files!r}.items():
    with __import__("builtins").open(_nad_name, "w") as _nad_file:
        _nad_file.write(_nad_text)
"""


def file_driver_source() -> str:
    """Return the source that writes the files; it is appended to every program."""
    return _SOURCE.format(files=FILES)
