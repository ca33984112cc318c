"""Values as plain data: what crosses between the judge and the candidate's process. Standard library only."""

from __future__ import annotations

import collections
import sys

_TEXT_TYPES = {
    "Decimal": "decimal",
    "Fraction": "fractions",
    "date": "datetime",
    "datetime": "datetime",
    "time": "datetime",
}
_NUMERIC_KINDS = "biufc"


def encode(value, refer):
    """A JSON-serialisable form of a value; an object of any other type becomes what `refer(object)` gives.

    Subclasses of the plain types are sent as the plain value, so that no method of theirs decides a comparison.
    """
    if value is None or value is True or value is False:
        return value
    if isinstance(value, int):
        return {"int": format(int.__index__(value), "x")}
    if isinstance(value, float):
        return {"float": float.__repr__(value)}
    if isinstance(value, str):
        return {"str": str.__str__(value).encode("utf-8", "surrogatepass").hex()}
    if isinstance(value, (bytes, bytearray)):
        kind = "bytes" if isinstance(value, bytes) else "bytearray"
        return {kind: bytes(value).hex()}
    if isinstance(value, tuple) and isinstance(getattr(type(value), "_fields", None), tuple):
        items = [encode(item, refer) for item in tuple.__iter__(value)]
        return {"named": [type(value).__name__, [str(field) for field in type(value)._fields], items]}
    for name, kind in (("list", list), ("tuple", tuple), ("set", set), ("frozenset", frozenset)):
        if isinstance(value, kind):
            return {name: [encode(item, refer) for item in kind.__iter__(value)]}
    if isinstance(value, dict):
        return {"dict": [[encode(k, refer), encode(v, refer)] for k, v in dict.items(value)]}
    if isinstance(value, collections.deque):
        return {"deque": [[encode(item, refer) for item in collections.deque.__iter__(value)], value.maxlen]}
    if isinstance(value, range):
        return {"range": [value.start, value.stop, value.step]}
    if type(value) is complex:
        return {"complex": [float.__repr__(value.real), float.__repr__(value.imag)]}
    name = type(value).__name__
    # whoever made the value has imported its module
    if name in _TEXT_TYPES and type(value) is getattr(sys.modules.get(_TEXT_TYPES[name]), name, None):
        return {"text": [name, value.isoformat() if _TEXT_TYPES[name] == "datetime" else str(value)]}
    if name == "timedelta" and type(value) is getattr(sys.modules.get("datetime"), name, None):
        return {"timedelta": [value.days, value.seconds, value.microseconds]}
    pathlib = sys.modules.get("pathlib")
    if pathlib is not None and isinstance(value, pathlib.PurePath):
        return {"path": str(value)}
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, (numpy.generic, numpy.ndarray)) and value.dtype.kind in _NUMERIC_KINDS:
        kind = "ndarray" if isinstance(value, numpy.ndarray) else "scalar"
        return {kind: [value.dtype.str, encode(value.tolist(), refer)]}
    return {"object": refer(value)}


def decode(data, resolve):
    """The value that `encode` took; `resolve` gives the stand-in for an object."""
    if data is None or data is True or data is False:
        return data
    ((kind, content),) = data.items()
    if kind == "int":
        return int(content, 16)
    if kind == "float":
        return float(content)
    if kind == "str":
        return bytes.fromhex(content).decode("utf-8", "surrogatepass")
    if kind in ("bytes", "bytearray"):
        raw = bytes.fromhex(content)
        return raw if kind == "bytes" else bytearray(raw)
    if kind in ("list", "tuple", "set", "frozenset"):
        made = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}[kind]
        return made(decode(item, resolve) for item in content)
    if kind == "dict":
        return {decode(k, resolve): decode(v, resolve) for k, v in content}
    if kind == "named":
        made = collections.namedtuple(content[0], content[1], rename=True)
        return made(*[decode(item, resolve) for item in content[2]])
    if kind == "deque":
        return collections.deque((decode(item, resolve) for item in content[0]), content[1])
    if kind == "range":
        return range(*content)
    if kind == "text":
        made = getattr(__import__(_TEXT_TYPES[content[0]]), content[0])
        return (made.fromisoformat if _TEXT_TYPES[content[0]] == "datetime" else made)(content[1])
    if kind == "complex":
        return complex(float(content[0]), float(content[1]))
    if kind == "timedelta":
        import datetime as dt

        return dt.timedelta(*content)
    if kind == "path":
        import pathlib

        return pathlib.Path(content)
    if kind in ("ndarray", "scalar"):
        plain = decode(content[1], resolve)
        try:
            import numpy as np
        except ImportError:
            return plain
        array = np.array(plain, dtype=content[0])
        return array if kind == "ndarray" else array[()]
    if kind == "object":
        return resolve(content)
    raise ValueError("unknown kind of value: " + repr(kind))
