"""Find and remove what an ended program left behind for the next one: files, messages and connections."""

from __future__ import annotations

import os
import signal

from nad_sandbox.isolation.bootstrap.privileges import become_user

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CLEANING_SECONDS = 2
QUEUES = "/dev/mqueue"
CONNECTIONS = "/proc/net/sockstat", "/proc/net/sockstat6"


def left_nothing(settings: dict[str, Any]) -> bool:
    """Return whether an ended program left nothing behind for the next one; remove its files first."""
    if not is_empty(settings):
        cleaner = os.fork()
        if not cleaner:
            try:
                signal.alarm(CLEANING_SECONDS)
                become_user(*settings["user"])
                for folder in settings["landlock"]:
                    remove_content(folder)
            finally:
                os._exit(0)
        os.waitpid(cleaner, 0)
        if not is_empty(settings):
            return False
    return not has_connections()


def has_connections() -> bool:
    """Return whether the network namespace has a connection, or a closed one that keeps its port for a minute."""
    for name in CONNECTIONS:
        if not os.path.exists(name):
            return name == CONNECTIONS[0]  # without the file the answer is unknown, so a new sandbox is safer
        with open(name, encoding="ascii") as file:
            for line in file:
                words = line.split()
                counts = dict(zip(words[1::2], words[2::2]))
                if words[0] in ("TCP:", "TCP6:") and (counts.get("inuse") != "0" or counts.get("tw", "0") != "0"):
                    return True
    return False


def is_empty(settings: dict[str, Any]) -> bool:
    """Remove the working folder if it is empty, and return whether every place a program can write to is empty."""
    try:
        os.rmdir(settings["workdir"])
    except FileNotFoundError:
        pass
    except OSError:
        return False
    places = [*settings["landlock"], QUEUES]
    return not any(os.listdir(place) for place in places if os.path.exists(place))


def remove_content(folder: str) -> None:
    """Remove everything in a folder that this user may remove."""
    for entry in list(os.scandir(folder)):
        try:
            if entry.is_dir(follow_symlinks=False):
                os.chmod(entry.path, 0o700)
                remove_content(entry.path)
                os.rmdir(entry.path)
            else:
                os.unlink(entry.path)
        except OSError:
            pass  # the caller checks whether anything is left
