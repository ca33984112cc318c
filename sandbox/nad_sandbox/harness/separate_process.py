"""The second judge: it evaluates examples and tests in a process without the program, which it calls by plain data.

Its verdict is worth more than that of the first judge, which shares a process with the program. It can judge tests
that only call the program with plain data (see `nad_sandbox.checks.plain_tests`), and programs that return plain data.
"""

from __future__ import annotations

import builtins
import os

from nad_sandbox.harness.assertions import AssertionRewriter, Assertions, CheckError
from nad_sandbox.harness.call_server import Remembered
from nad_sandbox.harness.child import ProgramEndedError
from nad_sandbox.harness.examples import ExampleError, compare_example
from nad_sandbox.harness.plain_data import MalformedError, NotPlainError, decode, encode
from nad_sandbox.harness.program import PROGRAM_MODULES, short_repr
from nad_sandbox.harness.same_process import FailedError, line_of_tests


class CannotJudgeError(BaseException):
    """Raised when the program returns or the tests pass something that is not plain data; the message says what."""


class Program:
    """Calls the program in its own process.

    Args:
        child: The program's process; see `serve_calls`.
        source: Source of the program.
        deadline: Time of the monotonic clock by which the program must have answered everything.
    """

    def __init__(self, child, source, deadline):
        self.child = child
        self.source = source
        self.remembered = Remembered()
        self.printed = ""
        child.deadline = deadline

    def start(self, *, load):
        """Ask the process to compile the program, and to load it where `load` says so."""
        self.child.send({"source": self.source, "load": load})

    def expect(self, phase):
        """Wait for the program to be compiled or loaded.

        Raises:
            FailedError: The program does not compile or load.
            ProgramEndedError: The program's process ended or broke the protocol.
        """
        answer = self.child.receive()
        detail = answer.get("detail")
        if answer.get("phase") != phase or not (detail is None or type(detail) is dict):
            raise ProgramEndedError("the program wrote into the answers of its process")
        if detail is not None:
            raise FailedError(**detail)

    def function(self, name):
        """Return a function that calls the program's function of this name."""

        def call(*args, **kwargs):
            return self.call(name, args, kwargs)

        call.__name__ = call.__qualname__ = name
        return call

    def call(self, name, args, kwargs):
        """Call a function of the program and return its result, or raise its exception as the nearest built-in class.

        Raises:
            CannotJudgeError: An argument or the result is not plain data.
            ProgramEndedError: The program's process ended or broke the protocol.
        """
        try:
            self.child.send({"name": name, "args": encode(list(args)), "kwargs": encode(kwargs)})
        except (NotPlainError, RecursionError) as error:
            raise CannotJudgeError("the tests pass %s to the program" % error) from None
        answer = self.child.receive()
        try:
            return self.taken(answer, args, kwargs)
        except (MalformedError, TypeError, ValueError, KeyError, IndexError, RecursionError, MemoryError) as error:
            if getattr(error, "nad_raised", False):
                raise
            raise ProgramEndedError("the program wrote into the answers of its process: %s" % error) from None

    def taken(self, answer, args, kwargs):
        """Return the result in an answer, which the program may have forged to be any JSON object."""
        if not answer.keys() <= {"value", "changed", "opaque", "raised", "printed"}:
            raise MalformedError("an unknown field")
        self.printed = answer.get("printed", "")
        if type(self.printed) is not str:
            raise MalformedError("what was printed is no text")
        if "opaque" in answer:
            raise CannotJudgeError("the program returns %s, which is no plain data" % str(answer["opaque"])[:100])
        self.remembered.add([*args, *kwargs.values()])
        self.remembered.apply(answer.get("changed", []))
        if "raised" in answer:
            raise rebuild_exception(answer["raised"])
        result = decode(answer["value"])
        self.remembered.add([result])
        return result


def rebuild_exception(raised):
    """Return an exception of the nearest built-in class, with the text of the program's exception."""
    kinds, text = raised["kinds"], str(raised["text"])
    kind = vars(builtins).get(kinds[0], Exception) if type(kinds) is list and kinds else Exception
    if not (isinstance(kind, type) and issubclass(kind, BaseException)):
        raise MalformedError("an unknown class of exceptions")
    made = type(str(raised["name"]), (kind,), {"__str__": lambda self: text, "nad_raised": True})
    error = made.__new__(made, text)
    error.detail = {key: str(raised.get(key, "")) for key in ("error", "where")}
    return error


def confirm_examples(program, examples):
    """Evaluate the examples, calling the program in its own process.

    Raises:
        FailedError: An example does not hold.
    """
    for example in examples:
        scope = {"__builtins__": dict(vars(builtins))}
        scope.update((name, program.function(name)) for name in example["names"])
        try:
            got = eval(compile(example["call"], "<example>", "eval"), scope)
        except Exception as error:
            if example.get("comparison") == "error" and example["expected"].partition(":")[0]:
                continue  # the first judge has compared the class and the message
            raise FailedError(**described(error)) from None
        try:
            compare_example(example, got, program.printed)
        except ExampleError as error:
            raise FailedError(**error.detail) from None


def confirm_tests(program, tests, plan):
    """Run the tests' top level and then their test functions.

    Raises:
        FailedError: A test fails, or none of the tests' assertions was reached.
    """
    assertions = Assertions(tests, short_repr)
    module = type(os)("tests")
    names = dict(vars(builtins), **assertions.names())
    names.update((name, program.function(name)) for name in plan["subjects"])
    names["__import__"] = importer(program, plan)
    vars(module)["__builtins__"] = names
    code = AssertionRewriter(assertions).rewrite(tests)
    try:
        exec(code, vars(module))
        for name in plan["functions"]:
            vars(module)[name]()
    except (CannotJudgeError, ProgramEndedError):
        raise
    except BaseException as error:
        raise FailedError(**described(error)) from None
    if not assertions.evaluated and plan["asserts"]:
        raise FailedError(error="no assertion of the tests was reached")


def importer(program, plan):
    """Return an `__import__` that gives the tests, for the program's modules, functions that call the program."""

    def import_module(name, *args, **kwargs):
        if name in PROGRAM_MODULES:
            module = type(os)(name)
            vars(module).update((subject, program.function(subject)) for subject in plan["subjects"])
            return module
        return __import__(name, *args, **kwargs)

    return import_module


def described(error):
    """Describe for the report an exception of the tests, or one that the program raised."""
    if isinstance(error, CheckError):
        told = dict(error.detail)
    else:
        told = getattr(error, "detail", None) or {"error": "%s: %s" % (type(error).__name__, error)}
    line = line_of_tests(error)
    return told if line is None else dict(told, test_line=line)
