"""The candidate's process: runs the model's code, then answers requests to use what it defined."""

from __future__ import annotations

import json
import os
import sys
import traceback

from nad_sandbox.harness.codec import decode, encode


def main():
    """Load the program whose source comes first, then serve until the pipe closes."""
    requests = os.fdopen(int(sys.argv[1]), "r", encoding="utf-8")
    answers = int(sys.argv[2])
    objects = []

    def refer(value):
        objects.append(value)
        return {"id": len(objects) - 1, "type": type(value).__name__, "callable": callable(value)}

    def resolve(reference):
        return objects[reference["id"]]

    def answer(message):
        data = (json.dumps(message) + "\n").encode()
        while data:
            data = data[os.write(answers, data) :]

    def failure(error):
        entries = traceback.extract_tb(error.__traceback__)
        own = [e for e in entries if e.filename == "candidate.py"]
        lines = ["line %d, in %s: %s" % (e.lineno, e.name, e.line or "") for e in own[-4:]]
        kinds = [base.__name__ for base in type(error).__mro__]
        try:
            args = encode(tuple(error.args), refer)
            text = str(error)
        except BaseException:
            args, text = encode((), refer), ""
        return {"error": {"kinds": kinds, "args": args, "text": text[:2000], "where": lines}}

    def use(request):
        target = resolve(request["object"]) if "object" in request else scope[request["name"]]
        action = request["do"]
        if action == "call":
            args, kwargs = decode(request["args"], resolve)
            result = target(*args, **kwargs)
            return {"value": encode(result, refer), "args": encode((args, kwargs), refer)}
        if action == "get":
            return {"value": encode(getattr(target, request["attribute"]), refer)}
        return {"value": encode(target, refer)}

    source = json.loads(requests.readline())["source"]
    import linecache

    linecache.cache["candidate.py"] = (len(source), None, source.splitlines(True), "candidate.py")
    scope = {"__name__": "candidate", "__file__": "candidate.py"}
    module = type(sys)("candidate")
    module.__dict__.update(scope)
    scope = module.__dict__
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
            raisable = isinstance(value, type) and issubclass(value, BaseException)
            names[name] = [base.__name__ for base in value.__mro__] if raisable else None
    answer({"phase": "load", "names": names})
    for line in requests:
        try:
            reply = use(json.loads(line))
        except BaseException as error:
            reply = failure(error)
        answer(reply)


main()
