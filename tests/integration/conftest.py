"""The real default model, loaded once, servers that end with the test that starts them, and a browser."""

import gc
import shutil
from contextlib import ExitStack

import pytest
from playwright.sync_api import sync_playwright

from nad_agents import NeuronAgreementDecoder, load_model
from tests.integration.servers import Server

BROWSERS = ("chromium-headless-shell", "chromium", "google-chrome", "chromium-browser")


@pytest.fixture(scope="module", autouse=True)
def _nothing_is_left_open():
    """A file, connection or loop that a module has left open fails the module itself, and not a later one."""
    yield
    gc.collect()


@pytest.fixture(scope="session")
def default_model():
    return load_model(dtype="float32")


@pytest.fixture(scope="session")
def default_decoder(default_model):
    return NeuronAgreementDecoder(default_model)


@pytest.fixture
def start_server():
    """Starts `nad serve` with the given options; the process ends with the test, whatever the test's outcome."""
    with ExitStack() as servers:
        yield lambda *options, **settings: servers.enter_context(Server(*options, **settings))


@pytest.fixture(scope="module")
def browser():
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.fail("no Chromium; `sandbox/engine.sh tools` installs one on Debian", pytrace=False)
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=path, args=["--no-sandbox"]) as found,
    ):
        yield found
