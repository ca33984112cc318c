"""Values of types of the standard library, as source that the sandbox evaluates, and files to read."""

from __future__ import annotations

from nad_sandbox.behaviour.file_driver import FILES

__all__ = ["STANDARD_TYPES"]

_TEXTS = tuple(f"StringIO({text!r})" for text in FILES.values())
_BINARY = tuple(f"BytesIO({text.encode()!r})" for text in FILES.values())
_PATHS = tuple(f"Path({name!r})" for name in (*FILES, "missing.txt", "folder/photo.tar.gz"))

STANDARD_TYPES: dict[str, tuple[str, ...]] = {
    "Decimal": tuple(f"Decimal({text!r})" for text in ("0", "1", "19.99", "-2.5", "0.075", "100", "1234.565")),
    "Fraction": ("Fraction(1, 2)", "Fraction(0, 1)", "Fraction(-3, 4)", "Fraction(7, 3)", "Fraction(5, 1)"),
    "date": ("date(2024, 2, 29)", "date(2023, 12, 31)", "date(2024, 1, 1)", "date(1999, 7, 4)", "date(2024, 6, 15)"),
    "datetime": (
        "datetime(2024, 2, 29, 12, 30)", "datetime(2023, 12, 31, 23, 59, 59)", "datetime(2024, 1, 1)",
        "datetime(2024, 6, 15, 8, 5, 1)", "datetime(1999, 7, 3, 18, 0)", "datetime(2024, 6, 16, 0, 0)",
    ),
    "time": ("time(12, 30)", "time(0, 0)", "time(23, 59, 59)", "time(8, 5)"),
    "timedelta": ("timedelta(hours=1)", "timedelta(0)", "timedelta(days=2, minutes=3)", "timedelta(seconds=-90)"),
    "Path": _PATHS, "PurePath": _PATHS, "PathLike": _PATHS,
    "TextIO": _TEXTS, "IO": _TEXTS, "StringIO": _TEXTS, "TextIOWrapper": _TEXTS, "TextIOBase": _TEXTS,
    "BinaryIO": _BINARY, "BytesIO": _BINARY, "BufferedReader": _BINARY,
    "bytearray": ("bytearray(b'ab')", "bytearray(b'')", "bytearray(b'\\x00\\xff')"),
    "UUID": ("UUID(int=5)", "UUID(int=0)"),
    "frozenset": ("frozenset({1, 2})", "frozenset()", "frozenset({3})", "frozenset({5, 1, 4})"),
    "Counter": ("Counter('abca')", "Counter()", "Counter({'x': 3, 'y': 1})"),
    "deque": ("deque([3, 1, 2])", "deque([])", "deque([1])", "deque([5, 5, 0])"),
}  # fmt: skip
"""Source texts of values by the name of the type; the observed process imports what they need."""
