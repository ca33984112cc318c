"""Run tests by pytest: with its own collection, fixtures and reports, and one plugin that records the reports."""

from __future__ import annotations

import os
import sys

from nad_sandbox.harness.program import PACKAGES, PROGRAM_FILE

PLACE = "test_solution.py"
LEFT_OUT = ("cacheprovider", "faulthandler", "junitxml", "pastebin", "stepwise", "pytester")
OPTIONS = ("-c", os.devnull, "--rootdir=.", "--noconftest", "--assert=plain", "--tb=no", "-q", "-x")


def import_pytest(asynchronous):
    """Import pytest and everything that it loads while it runs.

    Args:
        asynchronous: Import the plugin for coroutines too.

    Returns:
        A sentence that names what is missing; None when nothing is.
    """
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    path, sys.path[:] = sys.path[:], [PACKAGES, *sys.path]  # our pytest comes before one that is installed for programs
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
    """Run a module's tests by pytest.

    Args:
        load: Function that executes the tests' code in the module.
        module: The tests' module.
        plan: The test plan, as a dictionary; see `nad_sandbox.checks.judge_plan`.

    Returns:
        A dictionary. `ran`: number of tests that passed, or failed as expected. `skipped`: number of skipped tests.
        `failed`: the first exception that counts and the output up to then, or None. `finished`: whether pytest ended
        by itself and found no error of its own. `status`: pytest's exit status.
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
            # only the tests may skip a test or expect it to fail, the program may not
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
        pass  # the file stays empty: `load` provides the tests
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
