"""The page of `nad report` in a real headless browser: phones, desktops, light and dark."""

import re

import pytest

from nad_agents.evaluation.report import write_report
from nad_agents.runs import RecordedRun
from tests.unit.evaluation.synthetic_runs import write_run


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    write_report(RecordedRun(write_run(folder, problems=10, n=4)), folder / "report", draws=200)
    return folder / "report" / "report.html"


@pytest.fixture(params=["light", "dark"])
def page(browser, report, request):
    found = browser.new_page(viewport={"width": 375, "height": 800}, color_scheme=request.param)
    try:
        found.goto(report.as_uri())
        yield found
    finally:
        found.close()


def contrast(page):
    """The contrast of text and background, by the formula of WCAG."""
    colors = page.evaluate("(s => [s.color, s.backgroundColor])(getComputedStyle(document.body))")
    light, dark = sorted((luminance(color) for color in colors), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(color):
    parts = [int(part) / 255 for part in re.findall(r"\d+", color)[:3]]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("width", [320, 375, 480, 800, 1280])
def test_the_page_never_scrolls_sideways(page, width):
    page.set_viewport_size({"width": width, "height": 800})
    size = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert size == [width, width]
    # what is wider than the screen scrolls by itself, and nothing but figures and tables is
    wide = page.evaluate("""() => [...document.querySelectorAll("body *")]
      .filter((part) => part.getBoundingClientRect().right > innerWidth + 1 && !part.closest("figure, table"))
      .map((part) => part.tagName)""")
    assert wide == []


def test_plots_keep_a_size_at_which_their_labels_can_be_read(page):
    for width in (375, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        sizes = page.eval_on_selector_all("img", "images => images.map((i) => [i.complete, i.width])")
        assert len(sizes) >= 6
        assert all(complete and shown >= 500 for complete, shown in sizes), sizes
        scrolling = page.evaluate("""() => [...document.querySelectorAll("figure, table")]
          .filter((part) => part.scrollWidth > part.clientWidth).every((part) => part.tabIndex === 0)""")
        assert scrolling


def test_names_beside_figures_leave_room_for_them(page):
    for table in page.locator("table").all():
        first = table.locator("td").first.bounding_box()
        assert first["width"] < 0.6 * 375


def test_texts_of_headings_and_paragraphs_do_not_overlap(page):
    overlapping = page.evaluate("""() => {
      const parts = [...document.querySelectorAll("h1, h2, h3, p, pre, table, figure")]
        .map((part) => part.getBoundingClientRect());
      return parts.slice(1).filter((part, i) => part.top < parts[i].bottom - 1).length;
    }""")
    assert overlapping == 0


def test_dark_rooms_get_a_dark_page_with_dark_plots(page):
    dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    assert contrast(page) >= 7
    background = luminance(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert (background < 0.05) is dark
    filters = page.eval_on_selector_all("img", "images => images.map((i) => getComputedStyle(i).filter)")
    assert all(("invert" in found) is dark for found in filters)
