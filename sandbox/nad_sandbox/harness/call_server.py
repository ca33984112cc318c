"""The program's process for the second judge: it loads the program and makes the calls that the judge asks for.

The process holds no test, no expected value and no secret: it is forked before the supervisor has read anything.
Values cross the pipe as plain data. A list, set or dictionary that was an argument or a result is remembered, and the
changes that later calls make to it are reported, so that an argument sorted in place looks sorted to the tests.
"""

from __future__ import annotations

import builtins
import io
import json
import os
import sys

from nad_sandbox.harness.plain_data import NotPlainError, decode, encode
from nad_sandbox.harness.program import (
    Answers,
    compile_program,
    describe_error,
    describe_syntax_error,
    make_module,
    read_request,
    set_up_script,
    short_text,
)

MUTABLE = (list, dict, set, bytearray)
MOST_REMEMBERED = 32
LONGEST_REMEMBERED = 50000


class Remembered:
    """Keeps the mutable values that crossed the pipe, in the same order on both sides."""

    def __init__(self):
        self.values, self.forms = [], []

    def add(self, values):
        """Remember the mutable ones among some values."""
        for value in values:
            if isinstance(value, MUTABLE):
                self.values.append(value)
                self.forms.append(self.form(value))
        del self.values[:-MOST_REMEMBERED], self.forms[:-MOST_REMEMBERED]

    def form(self, value):
        """Return a value's current content as JSON; None when it is too long to be compared after every call."""
        if len(value) > LONGEST_REMEMBERED:
            return None
        try:
            return json.dumps(encode(value))
        except (NotPlainError, RecursionError):
            return None

    def changes(self):
        """Return the position, counted from the end, and the new content of each value that has changed."""
        changed = []
        for place, (value, form) in enumerate(zip(self.values, self.forms)):
            now = self.form(value)
            if now != form and now is not None:
                self.forms[place] = now
                changed.append([len(self.values) - place, json.loads(now)])
        return changed

    def apply(self, changes):
        """Apply the changes that the other side reported to the values on this side."""
        for place, content in changes:
            value, new = self.values[-place], decode(content)
            if type(value) is not type(new):
                raise TypeError("a value became one of another type")
            if isinstance(value, (list, bytearray)):
                value[:] = new
            else:
                value.clear()
                value.update(new)


def serve_calls(requests, answers):
    """Load the program, then answer calls until the pipe of requests is closed.

    Args:
        requests: Descriptor that requests are read from.
        answers: Descriptor that answers are written to.
    """
    requests = open(requests, encoding="ascii")
    request = read_request(requests)
    if request is None:
        os._exit(0)
    pipe = Answers(answers)
    set_up_script()
    source = request["source"]
    try:
        code = compile_program(source)
    except BaseException as error:
        pipe.send({"phase": "syntax", "detail": describe_syntax_error(error)})
        os._exit(0)
    pipe.send({"phase": "syntax"})
    module = make_module(source)
    if request["load"]:
        try:
            exec(code, vars(module))
        except BaseException as error:
            pipe.send({"phase": "load", "detail": describe_error(error, source)})
            os._exit(0)
        pipe.send({"phase": "load"})
    remembered = Remembered()
    while True:
        request = read_request(requests)
        if request is None:
            os._exit(0)
        pipe.send(answer_call(vars(module), request, remembered, source))


def answer_call(program, request, remembered, source):
    """Make one call, and return as data what it returned, printed, raised and changed."""
    args, kwargs = decode(request["args"]), decode(request["kwargs"])
    out = sys.stdout = io.StringIO()
    answer = {}
    try:
        function = program[request["name"]] if request["name"] in program else vars(builtins)[request["name"]]
        remembered.add([*args, *kwargs.values()])
        result = function(*args, **kwargs)
        answer["value"] = encode(result)
        answer["changed"] = remembered.changes()
        remembered.add([result])
    except NotPlainError as error:
        answer["opaque"] = str(error)
    except RecursionError as error:
        answer["raised"] = describe_exception(error, source)
    except BaseException as error:
        answer["raised"] = describe_exception(error, source)
        answer["changed"] = remembered.changes()
    try:
        answer["printed"] = out.getvalue()[: 1 << 20]
    except ValueError:
        answer["printed"] = ""
    return answer


def describe_exception(error, source):
    """Return an exception as data: its built-in classes, its text, and its description for the report."""
    kinds = [base.__name__ for base in type(error).__mro__ if vars(builtins).get(base.__name__) is base]
    name = type.__dict__["__name__"].__get__(type(error))
    return {"name": name, "kinds": kinds, "text": short_text(error), **describe_error(error, source)}
