"""The first judge: it loads the program and its tests in one process and runs them as Python and pytest run them.

It is forked before the supervisor has read anything, and reports the result of one check after the other. In order:

1. Import what the tests need, rewrite their assertions and compile them. An error up to here is the tests' own.
2. Compile the program and load it.
3. Evaluate the examples and run the tests; count the assertions, and check that nothing they rely on was changed.
"""

from __future__ import annotations

import builtins
import os
import sys

from nad_sandbox.harness.assertions import TESTS_FILE, AssertionRewriter, Assertions, CheckError
from nad_sandbox.harness.examples import ExampleError, check_examples
from nad_sandbox.harness.integrity import Guard, guarded_modules, watch_introspection
from nad_sandbox.harness.program import (
    PROGRAM_MODULES,
    Answers,
    compile_program,
    describe_error,
    describe_syntax_error,
    make_module,
    read_request,
    set_up_script,
    short_repr,
)
from nad_sandbox.harness.pytest_session import import_pytest, run_pytest

LIVE_BUILTINS = ("print", "input", "open")


class UnsupportedError(Exception):
    """Raised when the tests need something that this sandbox does not have."""


class FailedError(Exception):
    """Raised when a check failed; `detail` is for the report."""

    def __init__(self, **detail):
        super().__init__(detail.get("error", ""))
        self.detail = detail


class TestNames(dict):  # type: ignore[type-arg] # 3.8
    """Resolves the names that tests do not define: built-in names as they were, then those of the program.

    No name of the program shadows a built-in one, unless the tests are about that name, and none is put into the tests'
    own namespace, where pytest would look for fixtures, marks and hooks.

    Args:
        subjects: Names that the tests take from the program.
        names: Further names, which rewritten assertions call.
    """

    def __init__(self, subjects, names):
        super().__init__(vars(builtins))
        self.update(names)
        self.program = None
        self.subjects = subjects
        for name in LIVE_BUILTINS:
            del self[name]

    def show(self, module):
        """Make the names of the loaded program visible to the tests."""
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
    """Wait for the request, judge the program, and report each check.

    Args:
        requests: Descriptor that the request is read from.
        answers: Descriptor that results are written to.
    """
    request = read_request(open(requests, encoding="ascii"))
    if request is None:
        os._exit(0)
    pipe = Answers(answers, request["token"])
    set_up_script()
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
    """Runs the checks on one program; all checks share the program's module, the tests' namespace and the guard.

    Args:
        request: The program's source, the tests and the plan for them; see `nad_sandbox.checks.judge_plan`.
        tell_inner: Function that is called each time the program reaches into the interpreter.

    Raises:
        UnsupportedError: The tests cannot be run here, whatever the program.
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
        """Create the tests' module: ``__main__`` for a script, as Python runs it, else one that pytest imports."""
        name = "tests" if self.plan["kind"] == "pytest" else "__main__"
        module = type(sys)(name)
        module.__file__ = os.path.join(os.getcwd(), TESTS_FILE)
        vars(module)["__builtins__"] = self.names
        sys.modules[name] = module
        return module

    def import_modules(self):
        """Import the modules that the tests need, before the program can replace one of them."""
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
        watch_introspection([], self.tell_inner)
        self.attempt(lambda: exec(self.program, vars(self.module)))
        self.check_integrity()
        for name in PROGRAM_MODULES:
            sys.modules[name] = self.module
        self.names.show(self.module)

    def check_examples(self):
        """Evaluate the examples."""
        scope = {"__builtins__": dict(self.names)}
        self.attempt(lambda: check_examples(self.examples, vars(self.module), scope, self.assertions.honest))
        self.check_integrity()

    def check_tests(self):
        """Run the tests."""
        if self.plan["kind"] == "pytest":
            try:
                self.run_pytest()
            except FailedError as error:
                error.detail.setdefault("output", "")  # pytest's own output says nothing about the program
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
        self.check_integrity(("builtins", *self.plan["modules"]) if self.plan["patches"] else ())

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
        """Put the program's names into the tests' namespace when the tests look names up as text."""
        if self.plan["reflective"]:
            for name, value in list(vars(self.module).items()):
                if not name.startswith("_") and name not in vars(builtins) and not isinstance(value, type(sys)):
                    vars(self.namespace).setdefault(name, value)

    def attempt(self, action):
        """Run an action of the program or the tests, and turn any exception into a failed check.

        Raises:
            FailedError: The action raised an exception.
        """
        try:
            action()
        except BaseException as error:
            raise FailedError(**self.described(error)) from None

    def described(self, error):
        """Describe an exception for the report."""
        if isinstance(error, ExampleError):
            return error.detail
        told = describe_error(error, self.source)
        if isinstance(error, CheckError):
            told.update(error.detail)
        line = line_of_tests(error)
        if line is not None:
            told["test_line"] = line
        return told

    def check_integrity(self, exempt=()):
        """Fail a program that replaced something that the verdict rests on.

        Args:
            exempt: Names of modules that the tests may have changed.

        Raises:
            FailedError: The program replaced a guarded function or class.
        """
        changed = self.guard.changed(exempt)
        if changed:
            raise FailedError(error="the program replaced %s, on which its tests rely" % changed)


def line_of_tests(error):
    """Return the innermost line of the tests in an exception's traceback; None when there is none."""
    trace, line = error.__traceback__, None
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == TESTS_FILE:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
