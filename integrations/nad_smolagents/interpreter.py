"""The interpreter that runs an agent's code inside the sandbox; sent there as text and never imported.

``interpreter.py serve SOCKET`` keeps the variables and runs one piece of code after the other. ``interpreter.py run
SOCKET SECONDS ANSWER`` hands over the code on standard input and writes what came of it, as JSON, to the file ANSWER.
"""

import ast
import contextlib
import io
import json
import os
import signal
import socket
import sys
import traceback

MOST_TEXT = 200_000
FINAL_ANSWER = "FinalAnswerException"


def out_of_time(*_):
    raise TimeoutError("the code took too long; the variables that it had set are kept")


def run(code, seconds, scope):
    printed = io.StringIO()
    answer = {"output": None, "error": None, "final": None}
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            body = ast.parse(code, "<code>").body
            last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
            exec(compile(ast.Module(body, []), "<code>", "exec"), scope)
            if last is not None:
                value = eval(compile(ast.Expression(last.value), "<code>", "eval"), scope)
                answer["output"] = None if value is None else repr(value)[:MOST_TEXT]
    except BaseException as error:
        if type(error).__name__ == FINAL_ANSWER:
            answer["final"] = error.value
        else:
            answer["error"] = "".join(traceback.format_exception(type(error), error, error.__traceback__.tb_next))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    text = printed.getvalue()
    answer["logs"] = text if len(text) <= MOST_TEXT else text[:MOST_TEXT] + "\n[... cut ...]\n"
    return answer


def serve(path):
    signal.signal(signal.SIGALRM, out_of_time)
    scope = {"__name__": "__main__"}
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    while True:
        connection = listener.accept()[0]
        with connection, connection.makefile("rw", encoding="utf-8", errors="surrogatepass") as stream:
            request = json.loads(stream.readline())
            stream.write(json.dumps(run(request["code"], request["seconds"], scope)) + "\n")


def ask(path, seconds, file):
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    with connection, connection.makefile("rw", encoding="utf-8", errors="surrogatepass") as stream:
        stream.write(json.dumps({"code": sys.stdin.read(), "seconds": seconds}) + "\n")
        stream.flush()
        answer = stream.readline()
    if not answer:
        sys.exit("the interpreter has ended")
    with open(file, "w", encoding="utf-8") as stream:
        stream.write(answer)


if sys.argv[1] == "serve":
    serve(sys.argv[2])
else:
    ask(sys.argv[2], float(sys.argv[3]), sys.argv[4])
