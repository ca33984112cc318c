"""The page of `nad serve --ui` in a real headless browser, on the default model, with code checked in a sandbox."""

import os
import re
import signal
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from nad_agents.selectors import KNN, MeanLogprob
from tests.integration.servers import KEY, Server, wait_until

TASK = "Write a Python function add(a, b). >>> add(1, 2)\n3"


@pytest.fixture(scope="module")
def server():
    with Server("--ui", "--verify", "auto", "--max-new-tokens", "120") as found:
        yield found


@pytest.fixture
def page(browser, server):
    with opened(browser, server) as found:
        yield found


@contextmanager
def opened(browser, server):
    found = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme="light")
    found.set_default_timeout(40_000)
    expect.set_options(timeout=40_000)
    found.wrong = []
    found.on("pageerror", lambda error: found.wrong.append(str(error)))
    found.on("console", lambda said: found.wrong.append(said.text) if "Content Security" in said.text else None)
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
    for width in (320, 375, 480, 700, 800, 1280):
        page.set_viewport_size({"width": width, "height": 900})
        assert wider_than_the_screen(page) == []
        assert targets_below_40_pixels(page) == []
    page.set_viewport_size({"width": 480, "height": 900})
    expect(page.get_by_role("row").nth(1)).to_be_visible()
    assert page.get_by_role("row").nth(1).get_by_role("cell").count() == 9


def wider_than_the_screen(page):
    """The parts of the page that scroll sideways."""
    return page.evaluate("""() => [document.documentElement, ...document.querySelectorAll("*")]
      .filter((part) => part.checkVisibility() && part.scrollWidth > part.clientWidth && part.clientWidth)
      .filter((part) => part === document.documentElement || /auto|scroll/.test(getComputedStyle(part).overflowX))
      .map((part) => part.id || part.tagName)""")


def targets_below_40_pixels(page):
    """What can be clicked, a checkbox with its label, and is lower than a finger needs; text within a line aside."""
    return page.evaluate("""() => [...document.querySelectorAll("a, button, input, select, textarea, summary")]
      .map((target) => target.type === "checkbox" ? target.closest("label") : target)
      .filter((target) => target.checkVisibility() && target.getBoundingClientRect().height < 40)
      .map((target) => target.id || target.textContent)""")


def test_dropped_candidates_show_and_stopping_frees_the_rows(page, server):
    enter(page)
    page.get_by_label("Prompt", exact=True).fill(STORY)
    page.get_by_role("spinbutton", name="Candidates").fill("4")
    page.get_by_label("Pruning").select_option("halving")
    page.get_by_label("Seed").fill("1")  # the candidate that is left writes for 700 tokens and more
    page.get_by_label("Tokens at most").fill("2000")
    page.keyboard.press("Enter")
    expect(page.locator("article.pruned")).to_have_count(3)
    picture(page, "pruned")
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("status").first).to_have_text("Stopped.")
    wait_until(lambda: server.health()["running"] == 0)


STORY = "Write a long story about a fox and a lighthouse."
TOO_LONG = "fox " * 9000  # the default model's context has 8192 tokens


def ask(page, prompt, *, tokens, seed=None):
    page.get_by_label("Prompt", exact=True).fill(prompt)
    page.get_by_label("Tokens at most").fill(str(tokens))
    if seed is not None:
        page.get_by_label("Seed").fill(str(seed))
    page.keyboard.press("Enter")


def begin(page):
    enter(page)
    ask(page, STORY, tokens=2000)
    expect(page.locator("article pre").first).not_to_be_empty()


def ask_again(page):
    """Ask for a long text while an answer is shown, and wait until its candidates grow."""
    ask(page, STORY, tokens=2000)
    expect(page.locator("#result-title")).to_have_text("Previous answer")
    expect(page.locator("article.running pre").first).not_to_be_empty()


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
        with opened(browser, server) as page:
            page.clock.install()  # time goes on as ever, and can be put forward
            if not reason_arrives:  # in Chromium 150 no reason passes pipeThrough
                page.evaluate(LOSE_THE_REASON)
            begin(page)
            server.process.send_signal(signal.SIGSTOP)
            page.clock.fast_forward("00:31")
            says_that_it_broke(page, "nothing came for 30 s")
        assert server.stop() == 0


def test_what_the_server_refuses_is_said(page):
    enter(page)
    page.get_by_label("Prompt", exact=True).fill(TOO_LONG)
    page.keyboard.press("Control+Enter")
    expect(page.locator("#error")).to_contain_text("8192")
    picture(page, "refused")


def test_an_answer_stays_until_the_next_one_is_written(page):
    enter(page)
    ask(page, "Name a fruit.", tokens=12, seed=1)
    expect(page.locator("#figures")).to_contain_text("seed 1")
    shown = page.locator("main").inner_text()
    answer = page.locator("#answer").inner_text()

    page.get_by_label("Prompt", exact=True).fill(TOO_LONG)
    page.keyboard.press("Control+Enter")
    expect(page.locator("#error")).to_contain_text("8192")
    without_what_was_said = shown.replace("Done.", "")
    refused = page.locator("main").inner_text().replace(page.locator("#error").inner_text(), "")
    assert "".join(refused.split()) == "".join(without_what_was_said.split())
    picture(page, "refused-after-an-answer")

    ask_again(page)
    picture(page, "previous-answer")
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("status").first).to_have_text("Stopped.")
    assert page.locator("#answer").inner_text() == answer

    page.get_by_label("Tokens at most").fill("8")
    page.keyboard.press("Enter")
    expect(page.locator("#result-title")).to_contain_text("Candidate #")
    assert page.locator("#answer").inner_text() == page.locator("article.winner pre").inner_text() != answer


def test_the_form_is_as_it_was_after_a_reload(page):
    enter(page)
    filled = {"prompt": "two\n lines", "n": "5", "max_tokens": "33", "temperature": "0.55", "seed": "7"}
    for name, value in filled.items():
        page.locator(f"#{name}").fill(value)
    page.get_by_label("Selector").select_option("medoid")
    page.get_by_label("Pruning").select_option("halving")
    page.get_by_label("Run the code").uncheck()

    def values():
        fields = page.locator("#ask :is(input, select, textarea)").all()
        return {one.get_attribute("id"): one.input_value() for one in fields} | {
            "verify": page.locator("#verify").is_checked()
        }

    page.reload()
    expect(page.get_by_label("Prompt", exact=True)).to_have_value("two\n lines")
    assert values() == filled | {"selector": "medoid", "pruning": "halving", "verify": False}
    expect(page.locator("#selector-note")).to_contain_text("medoid: ")

    def fewer(route):
        answer = route.fetch()
        selectors = [{"name": "knn", "description": ""}]
        changed = {"max_candidates": 4, "selector": "knn", "selectors": selectors}
        route.fulfill(response=answer, json=answer.json() | changed)

    page.route("**/api/options", fewer)
    page.reload()
    expect(page.get_by_label("Seed")).to_have_value("7")
    assert (values()["selector"], values()["n"]) == ("knn", "3")
    expect(page.locator("#selector-note")).to_have_text("knn")
    page.unroute_all(behavior="wait")


def test_the_answer_is_as_it_was_after_a_reload(page):
    enter(page)
    ask(page, "Name a fruit.", tokens=12, seed=1)
    expect(page.locator("#figures")).to_contain_text("seed 1")
    shown, cells = page.locator("main").inner_text(), page.locator("#matrix").get_attribute("aria-label")
    page.reload()
    expect(page.locator("#figures")).to_contain_text("seed 1")
    again = page.locator("main").inner_text()
    assert "".join(again.split()) == "".join(shown.replace("Done.", "").split())
    assert page.locator("#matrix").get_attribute("aria-label") == cells

    ask_again(page)
    page.reload()  # which ends the request
    expect(page.locator("#result-title")).to_contain_text("Candidate #")
    expect(page.locator("#figures")).to_contain_text("seed 1")
    expect(page.get_by_label("Prompt", exact=True)).to_have_value(STORY)


NO_ROOM = """() => {
  const { setItem } = Storage.prototype;
  Storage.prototype.setItem = function (name, value) {
    if (name === "nad-answer") throw new DOMException("", "QuotaExceededError");
    setItem.call(this, name, value);
  };
}"""


def test_an_answer_that_a_tab_cannot_keep_is_shown_all_the_same(page):
    enter(page)
    page.evaluate(NO_ROOM)
    ask(page, "Name a fruit.", tokens=12)
    expect(page.get_by_role("status").first).to_have_text("Done.")
    page.reload()
    expect(page.get_by_label("Prompt", exact=True)).to_be_visible()
    expect(page.locator("#result")).to_be_hidden()


def test_selectors_and_scores_are_explained_where_they_are(page):
    enter(page)
    for kind in (MeanLogprob, KNN):
        page.get_by_label("Selector").select_option(kind.name)
        expect(page.locator("#selector-note")).to_have_text(f"{kind.name}: {kind.__doc__.splitlines()[0]}")
    offered = page.get_by_label("Selector").locator("option").all()
    assert {one.inner_text() for one in offered} >= {"knn", "medoid", "mean_logprob", "behaviour"}
    for one in offered:
        assert one.get_attribute("title"), one.inner_text()
    ask(page, "Name a fruit.", tokens=12)
    expect(page.locator("#result")).to_be_visible()
    expect(page.locator("#score-note")).to_contain_text(KNN.__doc__.splitlines()[0])
    expect(page.get_by_role("region", name="Agreement")).to_contain_text("jaccard similarity")
    page.get_by_label("Selector").select_option("medoid")
    expect(page.locator("#score-note")).to_contain_text("knn")  # of the answer, not of the form


def test_the_keyboard_alone_is_enough(page):
    expect(page.get_by_label("API key")).to_be_focused()
    page.keyboard.type(KEY)
    page.keyboard.press("Enter")
    expect(page.get_by_label("Prompt", exact=True)).to_be_focused()
    page.keyboard.type(STORY)
    reached = []
    for _ in range(20):
        reached.append(page.evaluate("document.activeElement.id"))
        if reached[-1] == "run":
            break
        page.keyboard.press("Tab")
        outline = page.evaluate(
            "(({ outlineStyle: s, outlineWidth: w }) => [s, w])(getComputedStyle(document.activeElement))"
        )
        assert outline == ["solid", "2px"], reached
    assert reached == ["prompt", "n", "selector", "pruning", "max_tokens", "temperature", "seed", "verify", "run"]
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Stop")).to_be_focused()
    expect(page.locator("article.running pre").first).not_to_be_empty()
    page.keyboard.press("Enter")
    expect(page.get_by_role("status").first).to_have_text("Stopped.")
    expect(page.get_by_role("button", name="Generate")).to_be_focused()
    for _ in range(3):
        page.keyboard.press("Shift+Tab")
    page.keyboard.press("ArrowUp")
    expect(page.get_by_label("Temperature")).to_have_value("0.85")


CONTRASTS = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const over = (colours) => { // the pixel that colours, from the backmost, make together
    for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const luminance = (pixel) => pixel.map((part) => part / 255)
    .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
    .reduce((sum, part, i) => sum + part * [0.2126, 0.7152, 0.0722][i], 0);
  const found = {};
  for (const part of document.querySelectorAll("body *")) {
    const text = [...part.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!text && !part.matches("input, textarea, select") || !part.checkVisibility() || part.disabled) continue;
    const behind = [];
    for (let node = part; node; node = node.parentElement) behind.unshift(getComputedStyle(node).backgroundColor);
    const back = over(["white", ...behind]), front = over([...behind, getComputedStyle(part).color]);
    const [low, high] = [luminance(back), luminance(front)].sort((a, b) => a - b);
    const ratio = (high + 0.05) / (low + 0.05);
    if (ratio < 4.5) found[part.id || part.className || part.textContent] = ratio;
  }
  return { found, back: getComputedStyle(document.body).backgroundColor };
}"""


def test_text_is_readable_in_light_and_dark(page):
    enter(page)
    page.get_by_label("Prompt", exact=True).fill(TASK)
    page.get_by_label("Seed").fill("1")
    page.keyboard.press("Enter")
    expect(page.locator("#result")).to_be_visible()
    page.set_viewport_size({"width": 375, "height": 800})
    backs = set()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        picture(page, f"375-{scheme}")
        told = page.evaluate(CONTRASTS)
        assert told["found"] == {}, scheme
        backs.add(told["back"])
    assert len(backs) == 2


def test_axe_finds_nothing_to_complain_of(page):
    def check(where):
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            for width in (1280, 375):
                page.set_viewport_size({"width": width, "height": 900})
                found = Axe().run(page).response
                assert len(found["passes"]) > 10
                broken = [(one["id"], node["html"]) for one in found["violations"] for node in one["nodes"]]
                assert not broken, (where, scheme, width)

    enter(page, "wrong")
    expect(page.get_by_role("alert").first).to_have_text("That key is not valid.")
    check("key")
    enter(page)
    expect(page.get_by_label("Prompt", exact=True)).to_be_focused()
    check("form")
    page.get_by_label("Prompt", exact=True).fill(TASK)
    page.get_by_label("Seed").fill("1")
    page.keyboard.press("Enter")
    expect(page.locator("#result")).to_be_visible()
    check("answer")
    for more in page.locator("summary").all():
        more.click()
    check("reports")
    page.get_by_label("Prompt", exact=True).fill(STORY)
    page.get_by_role("spinbutton", name="Candidates").fill("4")
    page.get_by_label("Pruning").select_option("halving")
    page.get_by_label("Tokens at most").fill("2000")  # of which the candidate that is left writes 700 and more
    page.keyboard.press("Enter")
    expect(page.locator("article.pruned").first).to_be_visible()
    check("growing")
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("status").first).to_have_text("Stopped.")
    check("stopped")
    page.get_by_label("Prompt", exact=True).fill(TOO_LONG)
    page.keyboard.press("Control+Enter")
    expect(page.locator("#error")).to_contain_text("8192")
    check("refused")


def test_the_page_is_open_and_what_it_asks_is_not(server):
    page = httpx.get(f"{server.url}/ui/")
    assert page.status_code == 200
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert httpx.get(f"{server.url}/ui/api/options").status_code == 401
    assert httpx.post(f"{server.url}/ui/api/decode", json={}).status_code == 401
    assert httpx.get(f"{server.url}/ui/page.py").status_code == 404
