"""What surrounds an observed program besides its arguments: the files of its working folder, and the time."""

from __future__ import annotations

import os
import time

MOST_FILES = 64
LONGEST_FILE = 1 << 16
OLD = (1, 1)  # a time of change that no write gives, since clocks may tick more slowly than files are written


class WorkingFolder:
    """The files of the working folder, which every call finds as they were when the program was loaded."""

    def __init__(self):
        self.contents, self.ignored = {}, ()
        # what is too long to be kept is neither shown nor undone
        self.ignored = tuple(name for name, (_, size) in self.stamps().items() if size > LONGEST_FILE)
        names = self.stamps()
        self.watched = len(names) <= MOST_FILES
        if self.watched:
            self.contents = {name: read_file(name) for name in names}
            for name in names:
                self.mark(name)
        self.known = self.stamps()

    def stamps(self):
        """Return the time of change and the size of every file by name."""
        found = {}
        for entry in os.scandir("."):
            if entry.is_file(follow_symlinks=False) and entry.name not in self.ignored:
                status = entry.stat(follow_symlinks=False)
                found[entry.name] = (status.st_mtime_ns, status.st_size)
        return found

    def mark(self, name):
        """Make a file look old, so that any write is seen."""
        try:
            os.utime(name, OLD)
        except OSError:
            pass

    def changes(self):
        """Return the contents of the files that were written, None for those that were removed, and undo both."""
        if not self.watched:
            return {}
        now = self.stamps()
        if now == self.known:
            return {}
        changed = [name for name in sorted({*now, *self.known}) if now.get(name) != self.known.get(name)]
        told = {name: read_file(name) if name in now else None for name in changed}
        for name in changed:
            try:
                os.remove(name)
            except OSError:
                pass
            if name in self.contents:
                with open(name, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
                    file.write(self.contents[name])
                self.mark(name)
        self.known = self.stamps()
        return told


def read_file(name):
    """Return the beginning of a file as text."""
    try:
        with open(name, encoding="utf-8", errors="surrogateescape", newline="") as file:
            return file.read(LONGEST_FILE)
    except OSError:
        return ""


def skip_sleeping():
    """Let programs that wait go on at once, on clocks that show the time as if they had waited."""
    slept, pause = [0.0], time.sleep

    def sleep(seconds):
        pause(min(seconds, 0.001))  # other threads of the program may run meanwhile
        slept[0] += seconds

    def later(clock):
        return lambda: clock() + slept[0]

    for name in ("time", "monotonic", "perf_counter"):
        setattr(time, name, later(getattr(time, name)))
    time.sleep = sleep
