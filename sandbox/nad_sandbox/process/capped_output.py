"""Keep a bounded part of a program's output, however much the program writes."""

from __future__ import annotations

__all__ = ["CappedOutput"]


class CappedOutput:
    """Collects bytes up to a limit: the first and the last bytes are kept, half each; the rest is counted and dropped.

    The last bytes are kept because tracebacks and summaries come last.

    Args:
        limit: Number of bytes to keep.
    """

    def __init__(self, limit: int) -> None:
        self._head_limit = limit - limit // 2
        self._tail_limit = limit // 2
        self._head = bytearray()
        self._tail = bytearray()
        self._total = 0

    @property
    def truncated(self) -> bool:
        """Whether the program wrote more than is kept."""
        return self._total > self._head_limit + self._tail_limit

    def write(self, data: bytes | memoryview) -> None:
        """Append the next bytes."""
        self._total += len(data)
        room = self._head_limit - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        if not len(data) or not self._tail_limit:
            return
        if len(data) >= self._tail_limit:
            self._tail[:] = data[len(data) - self._tail_limit :]
            return
        self._tail += data
        # trimming on every write would move the whole tail each time
        if len(self._tail) > 4 * self._tail_limit:
            del self._tail[: len(self._tail) - self._tail_limit]

    def text(self) -> str:
        """Return the kept bytes, decoded as UTF-8 with replacement, with a line that says how many are missing."""
        if not self.truncated:
            return (bytes(self._head) + bytes(self._tail)).decode("utf-8", "replace")
        tail = self._tail[len(self._tail) - self._tail_limit :] if self._tail_limit else b""
        missing = self._total - len(self._head) - len(tail)
        head_text = bytes(self._head).decode("utf-8", "replace")
        tail_text = bytes(tail).decode("utf-8", "replace")
        return f"{head_text}\n[... {missing} bytes left out ...]\n{tail_text}"
