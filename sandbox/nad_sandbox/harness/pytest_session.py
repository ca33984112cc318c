"""Running tests by pytest: its own collection, fixtures and reports, with one plugin that keeps what they say."""

from __future__ import annotations

import os
import sys

from nad_sandbox.harness.program import PACKAGES, PROGRAM_FILE

PLACE = "test_solution.py"
LEFT_OUT = ("cacheprovider", "faulthandler", "junitxml", "pastebin", "stepwise", "pytester")
OPTIONS = ("-c", os.devnull, "--rootdir=.", "--noconftest", "--assert=plain", "--tb=no", "-q", "-x")


def import_pytest(asynchronous):
    """Import pytest and all that it loads while it runs; what is missing in words, None when nothing is.

    Args:
        asynchronous: import the plugin for coroutines too.
    """
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    path, sys.path[:] = sys.path[:], [PACKAGES, *sys.path]  # before one that is installed for programs
    try:
        from _pytest.config import default_plugins

        for name in default_plugins:
            if name not in LEFT_OUT:
                __import__("_pytest." + name)
        if asynchronous:
            __import__("pytest_asyncio.plugin")
    except ImportError as error:
        version = "%d.%d" % sys.version_info[:2]
        return "the tests need %s, which is not in this sandbox with its Python %s" % (error.name, version)
    finally:
        sys.path[:] = path
    return None


def run_pytest(load, module, plan):
    """Run a module's tests; what came of them.

    Args:
        load: executes the tests' code in the module.
        module: the tests' module.
        plan: what was found out about the tests.

    Returns:
        `ran`: how many tests passed, or failed as expected; `skipped`: how many were left out; `failed`: the first
        exception that counts and what was printed, or None; `finished`: whether pytest came to its end and found
        nothing wrong; `status`: its exit status.
    """
    import pytest

    class Tests(pytest.Module):
        def _getobj(self):
            if not loaded:
                loaded.append(True)
                load()
            return module

    class Observer:
        def __init__(self):
            self.ran = self.skipped = 0
            self.failed = None

        @pytest.hookimpl(tryfirst=True)
        def pytest_pycollect_makemodule(self, module_path, parent):
            return Tests.from_parent(parent, path=module_path)

        @pytest.hookimpl(hookwrapper=True)
        def pytest_runtest_makereport(self, item, call):
            outcome = yield
            report = outcome.get_result()
            if call.excinfo is None:
                return
            # only tests may skip themselves, or say that they are expected to fail
            if report.skipped and skipped_by_program(call.excinfo, item):
                report.outcome = "failed"
                if hasattr(report, "wasxfail"):
                    del report.wasxfail
                report.longrepr = "skipped by the program"
            if report.failed and self.failed is None:
                self.failed = (call.excinfo.value, "".join(text for _, text in report.sections))

        def pytest_exception_interact(self, node, call, report):
            if self.failed is None and call.excinfo is not None:
                self.failed = (call.excinfo.value, "".join(text for _, text in report.sections))

        def pytest_runtest_logreport(self, report):
            if report.failed and self.failed is None:
                self.failed = (AssertionError(str(report.longrepr)[-500:]), "")
            if hasattr(report, "wasxfail") or (report.when == "call" and report.passed):
                self.ran += 1
            elif report.skipped:
                self.skipped += 1

    def skipped_by_program(excinfo, item):
        if item.get_closest_marker("xfail") is not None and not excinfo.errisinstance(pytest.xfail.Exception):
            return False
        return any(
            str(entry.path) == PROGRAM_FILE or entry.frame.code.raw.co_filename == PROGRAM_FILE
            for entry in excinfo.traceback
        )

    loaded = []
    observer = Observer()
    folder = os.path.join(os.getcwd(), "tests-" + os.urandom(8).hex())
    os.mkdir(folder)
    with open(os.path.join(folder, PLACE), "w"):
        pass  # the tests themselves lie in no file
    arguments = [*OPTIONS, *[option for name in LEFT_OUT for option in ("-p", "no:" + name)]]
    if plan["asynchronous"]:
        arguments += ["-p", "pytest_asyncio.plugin", "-o", "asyncio_mode=auto"]
    arguments.append(os.path.join(folder, PLACE))
    status = pytest.main(arguments, plugins=[observer])
    return {
        "ran": observer.ran,
        "skipped": observer.skipped,
        "failed": observer.failed,
        "finished": int(status) in (0, 5),
        "status": int(status),
    }
