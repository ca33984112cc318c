"""Read an output stream of a program that ends in a secret mark, which tells how the program ended."""

from __future__ import annotations

from nad_sandbox.process.capped_output import CappedOutput

__all__ = ["MarkedOutput"]

_STATUS_DIGITS = 3
_NO_STATUS = 1  # exit status if the mark is not followed by digits


class MarkedOutput:
    """Collects a stream that ends with a mark, three digits of exit status, and "+" if another program may follow.

    In a session, "!" takes the place of "+" if the memory limit killed a process of the program.

    The mark is a secret between this process and the sandbox's bootstrap program. It arrives before the sandbox has
    been removed, which takes longer than most programs run.

    Args:
        limit: Number of bytes to keep.
        mark: The secret mark.
    """

    def __init__(self, limit: int, mark: bytes) -> None:
        self.kept = CappedOutput(limit)
        self.status: int | None = None
        self.goes_on = False
        self.oom_killed = False
        self._mark = mark
        self._held = b""

    @property
    def truncated(self) -> bool:
        """Whether the program wrote more than is kept."""
        return self.kept.truncated

    def write(self, data: bytes | memoryview) -> None:
        """Append the next bytes; bytes after the mark are ignored."""
        if self.status is not None:
            return
        text = self._held + bytes(data)
        at = text.find(self._mark)
        # bytes that may be the beginning of the mark are held back
        end = at if at >= 0 else max(0, len(text) - len(self._mark) + 1)
        self.kept.write(text[:end])
        self._held = text[end:]
        told = self._held[len(self._mark) :]
        if at >= 0 and len(told) > _STATUS_DIGITS:
            digits = told[:_STATUS_DIGITS]
            self.status, self._held = int(digits) if digits.isdigit() else _NO_STATUS, b""
            self.oom_killed = told[_STATUS_DIGITS : _STATUS_DIGITS + 1] == b"!"
            self.goes_on = self.oom_killed or told[_STATUS_DIGITS : _STATUS_DIGITS + 1] == b"+"

    def text(self) -> str:
        """Return the kept bytes as text; nothing may be written afterwards."""
        self.kept.write(self._held)
        self._held = b""
        return self.kept.text()
