"""The first judge: loads the program and its tests in one process and runs them as Python and pytest run them.

It is forked from the supervisor before that has read anything, and tells check by check what it saw. In order:

1. Import what the tests need, rewrite their assertions, compile them. A fault up to here is the tests' own.
2. Compile the program and load it.
3. Evaluate the examples and run the tests; count what was evaluated, and see that nothing they rest on was changed.
"""

from __future__ import annotations

import builtins
import os
import sys

from nad_sandbox.harness.assertions import TESTS_FILE, AssertionRewriter, Assertions, CheckError
from nad_sandbox.harness.examples import ExampleError, check_examples
from nad_sandbox.harness.integrity import Guard, guarded_modules, note_inner_workings
from nad_sandbox.harness.program import (
    PROGRAM_MODULES,
    Answers,
    be_like_a_script,
    compile_program,
    describe_error,
    describe_syntax_error,
    make_module,
    read_request,
    short_repr,
)
from nad_sandbox.harness.pytest_session import import_pytest, run_pytest

LIVE_BUILTINS = ("print", "input", "open")


class UnsupportedError(Exception):
    """The tests need something that is not here."""


class FailedError(Exception):
    """A check failed; `detail` is for the report."""

    def __init__(self, **detail):
        super().__init__(detail.get("error", ""))
        self.detail = detail


class TestNames(dict):  # type: ignore[type-arg] # 3.8
    """Where tests find names that they do not define: built-in ones as they were, then those of the program.

    No name of the program stands before a built-in one, unless the tests are about it, and none is in the tests' own
    namespace, where pytest would look for fixtures, marks and hooks.

    Args:
        subjects: names that the tests take from the program.
        names: further names, for rewritten assertions.
    """

    def __init__(self, subjects, names):
        super().__init__(vars(builtins))
        self.update(names)
        self.program = None
        self.subjects = subjects
        for name in LIVE_BUILTINS:
            del self[name]

    def show(self, module):
        """Let the names of the loaded program be found."""
        self.program = vars(module)
        for name in self.subjects:
            if name in self.program:
                self.pop(name, None)

    def __missing__(self, name):
        if self.program is not None and name in self.subjects and name in self.program:
            return self.program[name]
        if name in LIVE_BUILTINS:
            return vars(builtins)[name]
        raise KeyError(name)


def serve_same_process(requests, answers):
    """Wait for the request, judge, and say what was seen; `requests` and `answers` are descriptors."""
    request = read_request(open(requests, encoding="ascii"))
    if request is None:
        os._exit(0)
    pipe = Answers(answers, request["token"])
    be_like_a_script()
    try:
        judge = Judge(request, lambda event: pipe.send({"note": event}))
    except UnsupportedError as error:
        pipe.send({"unsupported": str(error)})
        os._exit(0)
    pipe.send({"ready": True})
    for name in ("syntax", "imports", "examples", "tests"):
        if name not in request["checks"]:
            continue
        try:
            getattr(judge, "check_" + name)()
        except FailedError as error:
            pipe.send({"check": name, "passed": False, "detail": error.detail})
            os._exit(0)
        pipe.send({"check": name, "passed": True})
    pipe.send({"end": True})
    os._exit(0)


class Judge:
    """The checks, with what they share.

    Args:
        request: source, tests and what was found out about them; see `nad_sandbox.checks.judge_plan`.
        tell_inner: told each time the program reaches into the interpreter.

    Raises:
        UnsupportedError: the tests cannot be run here, whatever the program.
    """

    def __init__(self, request, tell_inner):
        self.tell_inner = tell_inner
        self.source = request["source"]
        self.tests = request["tests"]
        self.plan = request["plan"]
        self.examples = request["examples"]
        self.module = self.program = self.tests_code = None
        self.assertions = Assertions(self.tests, short_repr)
        self.names = TestNames(self.plan["subjects"], self.assertions.names())
        self.namespace = self.make_namespace()
        self.import_modules()
        if self.plan["kind"] != "doctest":
            try:
                self.tests_code = AssertionRewriter(self.assertions).rewrite(self.tests)
            except SyntaxError as error:
                raise UnsupportedError(
                    "Python %d.%d of the sandbox does not compile the tests: %s" % (*sys.version_info[:2], error)
                ) from None
        self.guard = Guard(guarded_modules(self.plan["modules"]))

    def make_namespace(self):
        """The tests' module: ``__main__`` for a script, as Python runs it, else one that pytest imports."""
        name = "tests" if self.plan["kind"] == "pytest" else "__main__"
        module = type(sys)(name)
        module.__file__ = os.path.join(os.getcwd(), TESTS_FILE)
        vars(module)["__builtins__"] = self.names
        sys.modules[name] = module
        return module

    def import_modules(self):
        """Import what the tests need before the program can stand in its place."""
        wanted = [name for name in self.plan["modules"] if name.split(".")[0] not in PROGRAM_MODULES]
        if self.plan["kind"] == "pytest" or "pytest" in wanted:
            missing = import_pytest(self.plan["asynchronous"])
            if missing:
                raise UnsupportedError(missing)
        if self.plan["kind"] == "doctest":
            wanted.append("doctest")
        for name in wanted:
            try:
                __import__(name)
            except ImportError as error:
                raise UnsupportedError(
                    "the tests import %r, which is not in the sandbox (%s); the program's names are in the modules "
                    "candidate, solution and main" % (name, error)
                ) from None

    def check_syntax(self):
        """Compile the program."""
        try:
            self.program = compile_program(self.source)
        except BaseException as error:
            raise FailedError(**describe_syntax_error(error)) from None

    def check_imports(self):
        """Load the program."""
        if self.program is None:
            self.check_syntax()
        self.module = make_module(self.source, self.tests)
        note_inner_workings([], self.tell_inner)
        self.attempt(lambda: exec(self.program, vars(self.module)))
        self.see_that_nothing_changed()
        for name in PROGRAM_MODULES:
            sys.modules[name] = self.module
        self.names.show(self.module)

    def check_examples(self):
        """Evaluate the examples."""
        scope = {"__builtins__": dict(self.names)}
        self.attempt(lambda: check_examples(self.examples, vars(self.module), scope, self.assertions.honest))
        self.see_that_nothing_changed()

    def check_tests(self):
        """Run the tests."""
        if self.plan["kind"] == "pytest":
            try:
                self.run_pytest()
            except FailedError as error:
                error.detail.setdefault("output", "")  # what pytest writes says nothing of the program
                raise
        elif self.plan["kind"] == "doctest":
            self.run_doctest()
        else:
            self.expose_names()
            self.attempt(lambda: exec(self.tests_code, vars(self.namespace)))
            if self.plan["asserts"] and not self.assertions.evaluated:
                raise FailedError(error="no assertion of the tests was reached")
        if self.assertions.failure is not None:
            raise FailedError(output="", **self.assertions.failure.detail)
        self.see_that_nothing_changed(("builtins", *self.plan["modules"]) if self.plan["patches"] else ())

    def run_pytest(self):
        """Run the tests by pytest."""
        self.expose_names()
        told = run_pytest(lambda: exec(self.tests_code, vars(self.namespace)), self.namespace, self.plan)
        if told["failed"] is not None:
            error, output = told["failed"]
            raise FailedError(output=output[-600:], **self.described(error))
        if not told["finished"]:
            raise FailedError(error="the tests did not come to their end: pytest's status is %s" % told["status"])
        if not told["ran"]:
            raise FailedError(error="no test ran" + (": all were skipped" if told["skipped"] else ""))

    def run_doctest(self):
        """Run the tests as an interactive session."""
        import doctest

        scope = vars(self.namespace)
        test = doctest.DocTestParser().get_doctest(self.tests, scope, "tests", TESTS_FILE, 0)
        written = []
        result = doctest.DocTestRunner(verbose=False).run(test, out=written.append, clear_globs=False)
        if result.failed:
            example = next(iter(test.examples))
            raise FailedError(assertion=example.source.strip()[:600], error="".join(written)[-600:])
        if not result.attempted:
            raise FailedError(error="no example of the tests was run")

    def expose_names(self):
        """Put the program's names into the tests' namespace where the tests look them up as text."""
        if self.plan["reflective"]:
            for name, value in list(vars(self.module).items()):
                if not name.startswith("_") and name not in vars(builtins) and not isinstance(value, type(sys)):
                    vars(self.namespace).setdefault(name, value)

    def attempt(self, action):
        """Run something of the program or the tests; what it raises becomes a failed check."""
        try:
            action()
        except BaseException as error:
            raise FailedError(**self.described(error)) from None

    def described(self, error):
        """What the report says of an exception."""
        if isinstance(error, ExampleError):
            return error.detail
        told = describe_error(error, self.source)
        if isinstance(error, CheckError):
            told.update(error.detail)
        line = line_of_tests(error)
        if line is not None:
            told["test_line"] = line
        return told

    def see_that_nothing_changed(self, exempt=()):
        """Fail a program that replaced something the verdict rests on."""
        changed = self.guard.changed(exempt)
        if changed:
            raise FailedError(error="the program replaced %s, on which its tests rely" % changed)


def line_of_tests(error):
    """The line of the tests at which an exception passed last."""
    trace, line = error.__traceback__, None
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == TESTS_FILE:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
