"""Take the pictures of the documentation that show the program: docs/scripts/screenshots.py (`make screenshots`).

The page of `nad serve --ui` is used in a headless browser, with the default model and the sandbox, as
`tests/integration/test_page.py` does. A seed gives the same candidates on most machines.
"""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

FOLDER = Path(__file__).parents[1]
_BROWSERS = ("chromium-headless-shell", "chromium", "google-chrome", "chromium-browser")
_TASK = "Write a Python function add(a, b). >>> add(1, 2)\n3"
_SEED = "1"
_PATIENCE = 120_000
"""Milliseconds within which an answer has to be there."""
_COLORS = 64
"""Colors of a picture, which is then a third as large, and looks the same."""


@contextmanager
def served() -> Iterator[str]:
    """Run the server, and yield the address of its page."""
    options = ("--ui", "--verify", "auto", "--n", "8", "--max-new-tokens", "120", "--port", "0")
    command = [str(Path(sys.executable).with_name("nad")), "serve", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            for line in process.stderr:
                if found := re.search(r"running on (http://[\d.:]+)", line):
                    yield f"{found[1]}/ui/"
                    break
        finally:
            process.terminate()


def take(page: Page, name: str) -> None:
    """Save a picture of the whole page."""
    picture = Image.open(io.BytesIO(page.screenshot(full_page=True)))
    picture.convert("RGB").quantize(_COLORS).save(FOLDER / name, optimize=True)


def main() -> None:
    """Ask for a function, and take a picture of the answer."""
    browser_path = next(filter(None, map(shutil.which, _BROWSERS)), None)
    with served() as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme="light")
        expect.set_options(timeout=_PATIENCE)
        page.goto(address)
        page.get_by_label("Prompt", exact=True).fill(_TASK)
        page.get_by_label("Seed").fill(_SEED)
        page.get_by_label("Tokens at most").fill("120")
        page.keyboard.press("Enter")
        expect(page.locator("#result")).to_be_visible()
        take(page, "ui.png")
        browser.close()


if __name__ == "__main__":
    main()
