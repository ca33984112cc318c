"""The page of `nad serve --ui` in a real headless browser, on the default model, with code checked in a sandbox."""

import os
import re
import shutil
import signal
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import expect, sync_playwright

from tests.integration.servers import KEY, Server, wait_until

BROWSERS = ("chromium-headless-shell", "chromium", "google-chrome", "chromium-browser")
TASK = "Write a Python function add(a, b). >>> add(1, 2)\n3"


@pytest.fixture(scope="module")
def server():
    with Server("--ui", "--verify", "auto", "--max-new-tokens", "120") as found:
        yield found


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


@pytest.fixture
def page(browser, server):
    with opened(browser, server) as found:
        yield found


@contextmanager
def opened(browser, server, **options):
    """The page; options are what it hears instead of the server's own."""
    found = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme="light")
    found.set_default_timeout(40_000)
    expect.set_options(timeout=40_000)
    found.wrong = []
    found.on("pageerror", lambda error: found.wrong.append(str(error)))
    found.on("console", lambda said: found.wrong.append(said.text) if "Content Security" in said.text else None)
    if options:

        def changed(route):
            answer = route.fetch()
            route.fulfill(response=answer, json=answer.json() | options) if answer.ok else route.fulfill(
                response=answer
            )

        found.route("**/api/options", changed)
    try:
        found.goto(f"{server.url}/ui/")
        yield found
        assert found.wrong == []
    finally:
        found.close()


def enter(page, key=KEY):
    page.get_by_label("API key").fill(key)
    page.keyboard.press("Enter")


def picture(page, name):
    if folder := os.environ.get("NAD_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def test_candidates_grow_are_checked_and_one_wins(page):
    enter(page, "wrong")
    expect(page.get_by_role("alert").first).to_have_text("That key is not valid.")
    picture(page, "key")
    enter(page)
    page.get_by_label("Prompt", exact=True).fill(TASK)
    page.get_by_role("spinbutton", name="Candidates").fill("6")
    page.get_by_label("Seed").fill("1")
    page.keyboard.press("Enter")
    expect(page.locator("article pre").first).not_to_be_empty()
    expect(page.locator("article.running")).not_to_have_count(0)
    picture(page, "growing")
    expect(page.locator("article.winner")).to_have_count(1)
    expect(page.locator("#result")).to_be_visible()
    assert page.locator("#answer").inner_text() == page.locator("article.winner pre").inner_text()
    assert page.locator("tbody tr").count() == 6
    assert "passed" in page.locator("tbody").inner_text() + page.locator("#reason").inner_text()
    assert "from 0." in page.locator("#matrix").get_attribute("aria-label")
    page.locator("#matrix").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#cell")).to_contain_text("and #")
    picture(page, "done")
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size({"width": 480, "height": 900})
    picture(page, "narrow-dark")
    for width in (360, 480, 700, 800, 1280):
        page.set_viewport_size({"width": width, "height": 900})
        for part in ("document.documentElement", "document.querySelector('.scroll')"):
            assert page.evaluate(f"{part}.scrollWidth - {part}.clientWidth") <= 0, (width, part)
    page.set_viewport_size({"width": 480, "height": 900})
    expect(page.get_by_role("row").nth(1)).to_be_visible()
    assert page.get_by_role("row").nth(1).get_by_role("cell").count() == 9


def test_dropped_candidates_show_and_stopping_frees_the_rows(page, server):
    enter(page)
    page.get_by_label("Prompt", exact=True).fill(STORY)
    page.get_by_role("spinbutton", name="Candidates").fill("4")
    page.get_by_label("Pruning").select_option("halving")
    page.get_by_label("Tokens at most").fill("2000")
    page.keyboard.press("Enter")
    expect(page.locator("article.pruned")).to_have_count(3)
    picture(page, "pruned")
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("status").first).to_have_text("Stopped.")
    wait_until(lambda: server.health()["running"] == 0)


STORY = "Write a long story about a fox and a lighthouse."


def begin(page):
    enter(page)
    page.get_by_label("Prompt", exact=True).fill(STORY)
    page.get_by_label("Tokens at most").fill("2000")
    page.keyboard.press("Enter")
    expect(page.locator("article pre").first).not_to_be_empty()


def says_that_it_broke(page, text):
    expect(page.locator("#error")).to_have_text(re.compile(text))
    expect(page.locator("article.running")).to_have_count(0)
    expect(page.locator("article.interrupted").first).to_contain_text("not finished")
    expect(page.get_by_role("button", name="Generate")).to_be_enabled()
    expect(page.get_by_role("button", name="Stop")).to_be_disabled()


def test_a_connection_that_breaks_is_said(browser):
    with Server("--ui", "--n", "2") as server, opened(browser, server) as page:
        begin(page)
        server.process.kill()
        says_that_it_broke(page, "^The connection to the server broke.$|^The server ended the answer early.$")
        picture(page, "broken")
        page.get_by_role("button", name="Generate").click()
        expect(page.locator("#error")).to_have_text("The connection to the server broke.")


LOSE_THE_REASON = """() => {
  const { abort } = AbortController.prototype;
  AbortController.prototype.abort = function () { abort.call(this); };
}"""


@pytest.mark.parametrize("reason_arrives", [True, False], ids=["as this browser has it", "the reason to abort lost"])
def test_a_server_that_falls_silent_is_said(browser, reason_arrives):
    with Server("--ui", "--n", "2") as server:
        with opened(browser, server, keep_alive_seconds=1) as page:
            if not reason_arrives:  # in Chromium 150 no reason passes pipeThrough
                page.evaluate(LOSE_THE_REASON)
            begin(page)
            server.process.send_signal(signal.SIGSTOP)
            says_that_it_broke(page, "nothing came for 3 s")
        assert server.stop() == 0


def test_what_the_server_refuses_is_said(page):
    enter(page)
    page.get_by_label("Prompt", exact=True).fill("hello")
    page.get_by_label("Tokens at most").fill("9000")
    page.keyboard.press("Enter")
    expect(page.locator("#error")).to_contain_text("8192")
    picture(page, "refused")


def test_the_page_is_open_and_what_it_asks_is_not(server):
    page = httpx.get(f"{server.url}/ui/")
    assert page.status_code == 200
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert httpx.get(f"{server.url}/ui/api/options").status_code == 401
    assert httpx.post(f"{server.url}/ui/api/decode", json={}).status_code == 401
    assert httpx.get(f"{server.url}/ui/page.py").status_code == 404
