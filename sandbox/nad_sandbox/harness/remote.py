"""Objects that stay in the candidate's process, as tests use them.

No object of the candidate decides a comparison with the tests' own data, nor takes part in a calculation with it: a
function that returns an object with a hand-made ``__eq__``, ``__lt__`` or ``__sub__`` would else pass any test. The
exception is an object that the tests themselves made by calling a class with a capitalised name, ``Money(5) > 3``;
objects of the candidate may always be compared with one another.
"""

from __future__ import annotations

import builtins

from nad_sandbox.harness.asserting import CheckError
from nad_sandbox.harness.codec import decode, encode

ANY_ORDER = {"lt": "gt", "gt": "lt", "le": "ge", "ge": "le", "eq": "eq", "ne": "ne"}


class Remote:
    """An object of the candidate."""

    __slots__ = ("_nad_candidate", "_nad_content", "_nad_made")

    def __init__(self, candidate, content, made=False):
        object.__setattr__(self, "_nad_candidate", candidate)
        object.__setattr__(self, "_nad_content", content)
        object.__setattr__(self, "_nad_made", made)

    def __call__(self, *args, **kwargs):
        candidate, given = self._nad_candidate, (list(args), kwargs)
        message = {"do": "call", "id": self._nad_content["id"], "args": encode(given, candidate.refer)}
        answer = candidate.request(message)
        if "args" in answer:
            for old, new in zip(given, decode(answer["args"], candidate.resolve)):
                update(old, new)
        value = decode(answer["value"], candidate.resolve)
        if type(value) is Remote and str(self._nad_content.get("class", ""))[:1].isupper():
            return Remote(candidate, value._nad_content, made=True)
        return value

    def __getattr__(self, attribute):
        if attribute == "__signature__":
            return self.signature()
        return self._nad_candidate.value({"do": "get", "id": self._nad_content["id"], "attribute": attribute})

    def __setattr__(self, attribute, value):
        candidate = self._nad_candidate
        data = encode(value, candidate.refer)
        candidate.request({"do": "set", "id": self._nad_content["id"], "attribute": attribute, "value": data})

    def __delattr__(self, attribute):
        self._nad_candidate.request({"do": "delete", "id": self._nad_content["id"], "attribute": attribute})

    def __instancecheck__(self, value):
        return type(value) is Remote and self._nad_candidate.operate("isinstance", value, self) is True

    def __subclasscheck__(self, value):
        return type(value) is Remote and self._nad_candidate.operate("issubclass", value, self) is True

    def __contains__(self, item):
        if self._nad_made or type(item) is Remote:
            return self._nad_candidate.operate("contains", self, item) is True
        return any(item == own for own in self)

    def __round__(self, *digits):
        return self._nad_candidate.operate("round", self, *digits)

    def __format__(self, spec):
        return self._nad_candidate.operate("format", self, spec)

    def __enter__(self):
        return self.__getattr__("__enter__")()

    def __exit__(self, _kind, error, _trace):
        kind = type(error) if error is not None else None
        return self.__getattr__("__exit__")(kind, error, None)

    def __getitem__(self, key):
        return self._nad_candidate.operate("getitem", self, key)

    def __setitem__(self, key, value):
        self._nad_candidate.operate("setitem", self, key, value)

    def __delitem__(self, key):
        self._nad_candidate.operate("delitem", self, key)

    def compare(self, operator, other):
        """Compare with another object of the candidate, or with data where the tests made this object."""
        if type(other) is Remote:
            if other._nad_content["id"] == self._nad_content["id"] and operator in ("eq", "ne"):
                return operator == "eq"
        elif not self._nad_made:
            if operator in ("eq", "ne"):
                return operator == "ne"
            raise self.refusal(operator)
        return self._nad_candidate.operate(operator, self, other)

    def calculate(self, operator, left, right):
        """Calculate with another object of the candidate, or with data where the tests made this object."""
        other = right if left is self else left
        if not self._nad_made and type(other) is not Remote:
            raise self.refusal(operator)
        return self._nad_candidate.operate(operator, left, right)

    def signature(self):
        """What `inspect.signature` tells tests of a function or class; its annotations are text but for built-ins."""
        import inspect

        parameters = []
        told, returned = self._nad_candidate.value({"do": "signature", "id": self._nad_content["id"]})
        for name, kind, annotation, default in told:
            made = inspect.Parameter(name, inspect._ParameterKind(kind), annotation=annotated(annotation))
            parameters.append(made.replace(default=default[0]) if default else made)
        return inspect.Signature(parameters, return_annotation=annotated(returned))

    def refusal(self, operator):
        """Why an object of the candidate has no say."""
        kind = self._nad_content.get("type", "object")
        return CheckError(
            "%s of a result and a value of the tests" % operator,
            "plain data",
            "an object of the class %s" % kind,
            "an object of the program's own class is not compared or calculated with data of the tests",
        )


def _unary(name):
    return lambda self: self._nad_candidate.operate(name, self)


def _comparison(name):
    return lambda self, other: self.compare(name, other)


def _binary(name):
    return lambda self, other: self.calculate(name, self, other)


def _reflected(name):
    return lambda self, other: self.calculate(name, other, self)


def _called(name):
    return lambda self, *args: self.__getattr__("__%s__" % name)(*args)


for _name in "len bool iter next reversed repr str int float complex index hash abs neg pos invert".split():
    setattr(Remote, "__%s__" % _name, _unary(_name))
for _name in ANY_ORDER:
    setattr(Remote, "__%s__" % _name, _comparison(_name))
for _name in "add sub mul truediv floordiv mod pow matmul lshift rshift and or xor".split():
    _operator = _name + "_" if _name in ("and", "or") else _name
    setattr(Remote, "__%s__" % _name, _binary(_operator))
    setattr(Remote, "__r%s__" % _name, _reflected(_operator))
for _name in "aenter aexit aiter anext await".split():
    setattr(Remote, "__%s__" % _name, _called(_name))


def annotated(text):
    """An annotation: a built-in, else its text; nothing where there is none."""
    import inspect

    return inspect.Parameter.empty if text is None else getattr(builtins, text, text)


async def awaiting(candidate, number):
    """A coroutine of the candidate, as one that tests can await; it runs to its end when it is awaited."""
    return candidate.operate("await", Remote(candidate, {"id": number}))


def update(old, new):
    """Make changes that the candidate made to its copies of mutable arguments."""
    if isinstance(old, list) and isinstance(new, list):
        for i in range(min(len(old), len(new))):
            if isinstance(old[i], (list, dict, set)) and type(old[i]) is type(new[i]):
                update(old[i], new[i])
                new[i] = old[i]
        old[:] = new
    elif isinstance(old, dict) and isinstance(new, dict):
        for key in new:
            if key in old and isinstance(old[key], (list, dict, set)) and type(old[key]) is type(new[key]):
                update(old[key], new[key])
                new[key] = old[key]
        old.clear()
        old.update(new)
    elif isinstance(old, set) and isinstance(new, set):
        old.clear()
        old.update(new)
