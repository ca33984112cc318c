"""Write or read one file of a session, as the user that the session's commands run as.

The payload is an 8-byte big-endian length, a JSON request of that length, and the content of a file to write. The
content of a file that is read goes to standard output in base64. An error of the operating system goes to standard
error, as JSON with its number and its text.
"""

from __future__ import annotations

import base64
import errno
import json
import os
import stat

CHUNK = 3 << 16  # a multiple of 3, so that the pieces of base64 can be put together


def read_exactly(size):
    parts = []
    while size:
        part = os.read(0, size)
        if not part:
            os._exit(1)
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def open_file(path, flags):
    # without blocking, since nothing may ever come out of a pipe with a name
    descriptor = os.open(path, flags | os.O_NONBLOCK, 0o666)
    kind = os.fstat(descriptor).st_mode
    if stat.S_ISDIR(kind):
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(kind):
        raise OSError(errno.EINVAL, "Not a regular file")
    return descriptor


def write_all(descriptor, data):
    while data:
        data = data[os.write(descriptor, data) :]


def write_file(path, size):
    # the payload is read to its end even if it cannot be written, since the next program's feed follows
    failed = None
    target = -1
    try:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        target = open_file(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    except OSError as error:
        failed = error
    while size:
        part = read_exactly(min(size, CHUNK))
        size -= len(part)
        if failed is None:
            try:
                write_all(target, part)
            except OSError as error:
                failed = error
                os.unlink(path)  # half of a file is worse than none
    if failed is not None:
        raise failed


def read_file(path, most):
    source = open_file(path, os.O_RDONLY)
    left = most
    data = b""
    while True:
        part = os.read(source, CHUNK - len(data))
        left -= len(part)
        if left < 0:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        data += part
        if len(data) == CHUNK or not part:
            write_all(1, base64.b64encode(data))
            data = b""
        if not part:
            return


def main():
    request = json.loads(read_exactly(int.from_bytes(read_exactly(8), "big")))
    try:
        if request["write"]:
            write_file(request["path"], request["size"])
        else:
            read_file(request["path"], request["size"])
    except OSError as error:
        write_all(2, json.dumps([error.errno, error.strerror]).encode())
        os._exit(1)
