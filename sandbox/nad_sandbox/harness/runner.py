"""The candidate's process: runs the model's code, then answers requests to use what it defined.

It is forked from the judge's before that has read anything: it holds no test, no expected value and no nonce.
"""

from __future__ import annotations

import builtins
import io
import json
import operator
import os
import sys
import warnings

from nad_sandbox.harness.codec import decode, encode

PRINTED = 1 << 20


class Printed(io.TextIOBase):
    """Standard output: written through, and kept for the answer to the request that caused it."""

    def __init__(self, file):
        self.file, self.kept, self.room = file, [], PRINTED

    def write(self, text):
        self.file.write(text)
        if self.room > 0:
            self.kept.append(text[: self.room])
            self.room -= len(text)
        return len(text)

    def writable(self):
        return True

    def flush(self):
        self.file.flush()

    def fileno(self):
        return self.file.fileno()

    @property
    def buffer(self):
        return self.file.buffer

    def take(self):
        """What was printed since the last time."""
        text, self.kept, self.room = "".join(self.kept), [], PRINTED
        return text


def run_coroutine(coroutine, loops=[]):  # noqa: B006 - one event loop for the whole process
    """The coroutine's result."""
    import asyncio

    if not loops:
        loops.append(asyncio.new_event_loop())
    return loops[0].run_until_complete(coroutine)


def operation(name):
    """A function of operands by its name: an operator, else a built-in function."""
    if name == "await":
        return run_coroutine
    return getattr(operator, name, None) or getattr(builtins, name)


def signature(function):
    """Its parameters as (name, kind, annotation's name, [default] or []), and the name of what it returns."""
    import inspect

    def name(annotation):
        if annotation is inspect.Parameter.empty:
            return None
        return getattr(annotation, "__name__", None) if isinstance(annotation, type) else str(annotation)

    found = inspect.signature(function)
    parameters = [
        (p.name, int(p.kind), name(p.annotation), [] if p.default is p.empty else [p.default])
        for p in found.parameters.values()
    ]
    return parameters, name(found.return_annotation)


def be_candidate(requests, answers):
    """Load the program whose source comes first, then serve until the pipe closes.

    Arguments: descriptors of the pipes.
    """
    requests = os.fdopen(requests, "r", encoding="utf-8")
    # kept for good, so that an id is never used twice
    held, places, callbacks, numbers = [], {}, {}, {}
    printed, complained = Printed(sys.stdout), Printed(sys.stderr)
    sys.stdout, sys.stderr = printed, complained
    warned, patches = [], []
    # tests may replace these for the program
    dumps, loads, write = json.dumps, json.loads, os.write

    def warn(message, category, *_place, **_more):
        if len(warned) < 100:
            warned.append([[base.__name__ for base in category.__mro__], str(message)[:2000]])

    warnings.showwarning = warn
    warnings.simplefilter("always")

    def noted(reply):
        reply.update(printed=printed.take(), complained=complained.take(), warned=warned[:])
        del warned[:]
        return reply

    def refer(value):
        if id(value) in numbers:
            return {"callback": numbers[id(value)]}
        if id(value) not in places:
            places[id(value)] = len(held)
            held.append(value)
        content = {"id": places[id(value)], "type": type(value).__name__}
        if isinstance(value, type):
            content["class"] = value.__name__
            if issubclass(value, BaseException):
                content["raises"] = [base.__name__ for base in value.__mro__]
        return content

    def resolve(content):
        if "id" in content:
            return held[content["id"]]
        if "builtin" in content:
            return getattr(builtins, content["builtin"])
        if "raised" in content:
            return rebuilt(content["raised"])
        number = content["callback"]
        if number not in callbacks:

            def callback(*args, **kwargs):
                answer(noted({"callback": number, "args": encode((list(args), kwargs), refer)}))
                return serve()

            callback.__name__ = callback.__qualname__ = content["name"]
            callbacks[number] = callback
            numbers[id(callback)] = number
        return callbacks[number]

    def rebuilt(error):
        kinds = [getattr(builtins, kind, None) for kind in error["kinds"]]
        kind = next(k for k in kinds if isinstance(k, type) and issubclass(k, BaseException))
        return kind(*decode(error["args"], resolve))

    def answer(message):
        data = (dumps(message) + "\n").encode()
        while data:
            data = data[write(answers, data) :]

    def failure(error):
        import linecache
        import traceback

        linecache.cache["candidate.py"] = (len(source), None, source.splitlines(True), "candidate.py")
        entries = traceback.extract_tb(error.__traceback__)
        own = [e for e in entries if e.filename == "candidate.py"]
        lines = ["line %d, in %s: %s" % (e.lineno, e.name, e.line or "") for e in own[-4:]]
        kinds = [base.__name__ for base in type(error).__mro__]
        try:
            args, text = encode(tuple(error.args), refer), str(error)
        except BaseException:
            args, text = encode((), refer), ""
        return {"error": {"kinds": kinds, "args": args, "text": text[:2000], "where": lines}}

    def use(request):
        action = request["do"]
        if action == "operate":
            return {"value": encode(operation(request["operator"])(*decode(request["args"], resolve)), refer)}
        if action in changes:
            return {"value": encode(changes[action](request), refer)}
        target = held[request["id"]]
        if action == "signature":
            return {"value": encode(signature(target), refer)}
        if action == "call":
            args, kwargs = decode(request["args"], resolve)
            result = target(*args, **kwargs)
            return {"value": encode(result, refer), "args": encode((args, kwargs), refer)}
        if action == "set":
            setattr(target, request["attribute"], decode(request["value"], resolve))
            return {"value": None}
        if action == "delete":
            delattr(target, request["attribute"])
            return {"value": None}
        return {"value": encode(getattr(target, request["attribute"]), refer)}

    def patch(request):
        module = sys.modules["candidate"]
        if request["module"] != "candidate":
            import importlib

            module = importlib.import_module(request["module"])
        name = request["attribute"]
        patches.append((module, name, getattr(module, name, patches)))
        value = io.StringIO(request["text"]) if "text" in request else decode(request["value"], resolve)
        setattr(module, name, value)
        return len(patches) - 1

    def unpatch(request):
        module, name, old = patches[request["token"]]
        delattr(module, name) if old is patches else setattr(module, name, old)

    def change_environment(request):
        os.environ.clear()
        os.environ.update(decode(request["values"], resolve))

    changes = {
        "patch": patch,
        "unpatch": unpatch,
        "chdir": lambda request: os.chdir(request["path"]),
        "environment": change_environment,
    }

    def serve():
        for line in iter(requests.readline, ""):
            request = loads(line)
            if request["do"] == "return":
                if "error" in request:
                    raise rebuilt(request["error"])
                return decode(request["value"], resolve)
            try:
                reply = use(request)
            except BaseException as error:
                reply = failure(error)
            answer(noted(reply))
        os._exit(0)

    source = json.loads(requests.readline())["source"]
    module = type(sys)("candidate")
    scope = module.__dict__
    scope.update(__name__="candidate", __file__="candidate.py")
    sys.modules["candidate"] = module
    sys.argv = ["candidate.py"]
    try:
        program = compile(source, "candidate.py", "exec", dont_inherit=True)
    except BaseException as error:
        where = "line %s: %s" % (getattr(error, "lineno", "?"), (getattr(error, "text", "") or "").strip())
        answer(
            {"phase": "syntax", "error": {"kinds": [type(error).__name__], "text": str(error)[:2000], "where": [where]}}
        )
        return
    answer({"phase": "syntax"})
    try:
        exec(program, scope)
    except BaseException as error:
        answer({"phase": "load", **failure(error)})
        return
    names = {}
    for name, value in list(scope.items()):
        if not name.startswith("__") and not isinstance(value, type(sys)):
            try:
                names[name] = encode(value, refer)
            except Exception:  # a value that cannot be sent, such as a list that holds itself
                names[name] = {"object": refer(value)}
    noted({})
    answer({"phase": "load", "names": names})
    serve()
